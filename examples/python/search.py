"""Search of a folder of notes by their meaning: ``python search.py MODEL "QUESTION" [FOLDER]``.

MODEL is one that embeds texts, such as a directory of all-MiniLM-L6-v2. Each paragraph of the notes is given a vector,
and so is the question: the paragraphs whose vectors are nearest to the question's are printed.
"""

import sys
from pathlib import Path

from mlx_sidecar_client import SyncSidecar

model, question = sys.argv[1:3]
folder = Path(sys.argv[3]) if len(sys.argv) > 3 else Path(__file__).parents[1] / "data" / "notes"

paragraphs = [
    (note.name, paragraph.strip())
    for note in sorted(folder.glob("*.md"))
    for paragraph in note.read_text(encoding="utf-8").split("\n\n")
    if paragraph.strip() and not paragraph.startswith("#")
]

with SyncSidecar.spawn() as sidecar:
    vectors = sidecar.embed_all(model, [text for _, text in paragraphs], truncate=True)
    [asked] = sidecar.embed_all(model, [question])

# The vectors have length 1, so that their product is the cosine of the angle between them.
nearness = [sum(a * b for a, b in zip(asked, vector, strict=True)) for vector in vectors]
for score, (name, text) in sorted(zip(nearness, paragraphs, strict=True), reverse=True)[:3]:
    sys.stdout.write(f"{score:.2f} {name}: {text}\n")
