"""First tokens by the length of their prompts, cold and warm, as a picture."""

from __future__ import annotations

from pathlib import Path

from .figures import Figures

FILE = Path(__file__).parents[2] / "docs" / "plots" / "prefixes.png"
LINES = {"cold": "C3", "dropped": "C1", "disk": "C0", "ram": "C2", "copy": "0.6"}
NAMES = {
    "cold": "computed",
    "dropped": "from disk, page cache empty",
    "disk": "from disk after a restart",
    "ram": "from memory",
    "copy": "copying the bytes",
}


def draw(figures: list[Figures], file: Path = FILE) -> None:
    """One panel for each model; seconds on a logarithmic scale."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    models = list(dict.fromkeys(found.model for found in figures))
    made, panels = plt.subplots(1, len(models), figsize=(4 * len(models), 3.6), sharey=True, squeeze=False)
    for panel, model in zip(panels[0], models, strict=True):
        of_it = [found for found in figures if found.model == model]
        for line, colour in LINES.items():
            points = [getattr(found, line) for found in of_it]
            panel.plot([found.tokens for found in of_it], points, "o-", color=colour, label=NAMES[line])
        panel.set(title=model, xscale="log", yscale="log", xlabel="tokens of the prompt")
        panel.set_xticks([found.tokens for found in of_it], [f"{found.tokens // 1024}k" for found in of_it])
        panel.minorticks_off()
        panel.grid(alpha=0.3)
    panels[0][0].set_ylabel("seconds to the first token")
    panels[0][-1].legend(fontsize=8)
    made.tight_layout()
    made.savefig(file, dpi=120)
    plt.close(made)
