"""The demo as a Space: the page of `transformers-tcm demo` with the bundled models."""

from transformers_tcm.demo import launch_demo

if __name__ == "__main__":
    launch_demo()
