"""Check dataset names, environment variables, annotation files and image folders, in a second and without torch.

    $ python3 -m qwenvl.data dynevalinstruct_t2ia,dynevalinstruct_iqa

The launch scripts run it before torchrun: a wrong path then costs a second and not the start of eight processes.
"""

from __future__ import annotations

import sys

from dyneval.errors import UserError
from qwenvl.data import data_list
from qwenvl.data.annotation_file import AnnotationFile
from qwenvl.data.image_folder import check_image_folder


def main(names: str) -> None:
    """Print the number of samples of each dataset, or what is wrong with it."""
    try:
        for source in data_list(names.split(",")):
            annotations = AnnotationFile(source.annotation)
            check_image_folder(source, annotations)
            sys.stdout.write(f"{source.name}: {len(annotations)} samples in {source.annotation}\n")
    except (UserError, OSError) as error:
        sys.exit(f"qwenvl: {error}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "")
