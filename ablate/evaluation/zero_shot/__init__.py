"""Zero-shot and few-shot tasks by lm-eval: its task files decide prompts, choices and scorers; the model is ours.

local_tasks      tasks whose data may be files: where these are, and their fields as lm-eval names them
loading          from names to lm-eval's tasks
language_model   our models as lm-eval's `LM`
scoring          from a task and a model to the outcome of each item, and scores
evaluation       the option `evaluation=zero_shot`
"""
