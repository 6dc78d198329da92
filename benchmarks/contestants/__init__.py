"""Language models of the field's libraries beside ours: the same work, the same weights, the same training step.

roster        who takes part in which family, and what is known of each
work          the sizes of a family and its batches
weights       the weights that every contestant starts with
ours, huggingface, x_transformers_models, torch_layers, litgpt_models, nanogpt, nanot5
              one library each: a model with the given weights, and its loss of a batch
sources       fetches the peers that no package registry has, or whose pins clash with ours
worker        the process of one contestant: a training step each time it is asked
comparison    asks all contestants in turn and compares them
ratios, floors, table
              the statistics of the ratios, what is demanded of them, and the table of the documentation
"""
