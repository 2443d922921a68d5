"""Sentences that say which cell of a comparison is best, and from which others it can be told apart."""

from collections.abc import Iterator

from trainer.compare.results import BETTER, DELTA_M, MEAN_RANK, TO_BEST, WORSE, CellResult, Results
from trainer.compare.results_notes import listed
from trainer.output.page import digits


def sentences(results: Results) -> list[str]:
    """Returns the verdict of a comparison as plain text, the most important sentence first."""
    if results.best is None and not results.counted and any(cell.seeds for cell in results.cells):
        return ["No value whose better direction is known is in all cells, so that there is no best one."]
    if results.best is None:
        return ["No cell has all numbers, so that there is no best one."]
    best = results.cell(results.best)
    if sum(cell.mean_rank is not None for cell in results.cells) == 1:
        return [f"{_only(results)} is {best.name}{_by_delta(best)}.", *_alone(best)]
    return [f"The best cell is {best.name} ({_by(best)}).", *_others(results), *_ranks(results, best), *_alone(best)]


def _only(results: Results) -> str:
    main = [cell for cell in results.cells if cell.single_task is None]
    return "The only cell" if len(main) == 1 else "The only cell with all numbers"


def _by(best: CellResult) -> str:
    return _delta_m(best) or f"mean rank {digits.number(best.mean_rank, 3)}"


def _by_delta(best: CellResult) -> str:
    found = _delta_m(best)
    return found and f" ({found})"


def _delta_m(best: CellResult) -> str:
    """Δm in words; empty where there is none."""
    found = best.delta_m
    if found is None:
        return ""
    sign = "+" if found.mean > 0 else ""
    mostly = "" if found.dominated_by is None else f", mostly that of {found.dominated_by}"
    return f"Δm {sign}{digits.number(found.mean, 3)} %{mostly}"


def _others(results: Results) -> Iterator[str]:
    """The other cells by their verdicts, over all tasks together."""
    verdicts: dict[str, list[str]] = {}
    for each in results.differences:
        if each.kind == TO_BEST and each.of in (DELTA_M, MEAN_RANK):
            small = " by less than another seed changes" if each.is_small and each.verdict in (BETTER, WORSE) else ""
            verdicts.setdefault(each.verdict + small, []).append(each.cell)
    if verdicts:
        yield f"The others, compared to it: {'; '.join(f'{words}: {listed(own)}' for words, own in verdicts.items())}."


def _ranks(results: Results, best: CellResult) -> Iterator[str]:
    """The best cell by mean rank, where that is another one."""
    ranked = [cell for cell in results.cells if cell.mean_rank is not None]
    first = min(ranked, key=lambda cell: cell.mean_rank)
    if first.mean_rank < best.mean_rank:
        yield f"By mean rank it is {first.name} ({first.mean_rank:.2f} to {best.mean_rank:.2f})."


def _alone(best: CellResult) -> Iterator[str]:
    if best.delta_m is not None and best.delta_m.mean < 0:
        yield "No cell is better than its tasks alone."
