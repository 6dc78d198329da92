"""From the records of a sweep to a report that a sceptic can check: `build.build` collects and writes, `build.rebuild` writes again."""
