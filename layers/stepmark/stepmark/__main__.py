"""`python -m stepmark` is the command `stepmark`."""

from runpy import run_module

if __name__ == "__main__":
    run_module("stepmark.cli", run_name="__main__", alter_sys=True)
