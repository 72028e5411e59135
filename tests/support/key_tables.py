"""The key tables of docs/configs.md, made of the declarations that check a config.

    python tests/support/key_tables.py

writes them anew; tests/test_config.py compares.
"""

import re
from pathlib import Path

from jaxgen import config
from jaxgen.data.captioned import section as captioned
from jaxgen.data.sr import section as sr
from jaxgen.data.triplets import section as triplets
from jaxgen.keys import markdown
from jaxgen.tasks.autoencoder import config as autoencoder_task
from jaxgen.tasks.sr import config as sr_task
from jaxgen.tasks.t2i import config as t2i_task

PAGE = Path(__file__).resolve().parents[2] / "docs" / "configs.md"
TABLES = {
    "train": config.TRAIN,
    "mesh": config.MESH,
    "optimizer": config.OPTIMIZER,
    "sr": sr.KEYS,
    "captioned": captioned.KEYS,
    "triplets": triplets.KEYS,
    "sr loss": sr_task.LOSS,
    "t2i loss": t2i_task.LOSS,
    "autoencoder loss": autoencoder_task.LOSS,
}


def filled(text: str) -> str:
    """The page with each table between its marks."""

    def fill(found: re.Match[str]) -> str:
        return f"<!-- keys: {found[1]} -->\n\n{markdown(TABLES[found[1]])}\n<!-- end -->"

    return re.sub(r"<!-- keys: ([\w ]+) -->\n.*?<!-- end -->", fill, text, flags=re.DOTALL)


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text()))
