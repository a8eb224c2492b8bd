from transformers_tcm import *  # noqa: F403 (pip install transformers-tcm)
