"""From the records of a sweep to a report that a sceptic can check; `build.build` makes it, `build.rebuild` again."""
