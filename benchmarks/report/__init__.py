"""Result files to one page that people look at: tables, charts, and where every number came from."""
