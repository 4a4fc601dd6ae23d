"""The comparison of recordings in small: that both sides run, and that every figure a goal names is there."""

import statistics

import pytest

from benchmarks import record


def test_both_ways_run_on_the_same_images_and_give_every_figure(tmp_path, monkeypatch):
    monkeypatch.setattr(record, "SIZE", 32)
    monkeypatch.setattr(record, "BATCH", 4)
    monkeypatch.setattr(record, "ROUNDS", 1)
    monkeypatch.setattr(record, "_loaded", lambda folder: iter(record.DataLoader(record._Crops(folder), batch_size=4)))
    monkeypatch.setattr(record, "_memory", lambda count: record.Peak(10**9, 10**9 + 9600 * 4 * count))
    folder = record.write_photographs(tmp_path / "images", 6)
    told = record.comparison(folder)
    assert set(record.GOALS) <= set(told["figures"])
    # 8 blocks of two convolutions, two norms and an output are 40 places; two a pass make 20 passes, of which one a round runs.
    assert (told["images"], told["layers"], told["published_passes"]) == (6, 40, 20)
    assert (len(told["ours_s"]), len(told["published_pass_s"])) == (1, 1)
    expected = 20 * statistics.median(told["published_pass_s"]) / told["ours_s"][0]
    assert told["figures"]["ratio"] == pytest.approx(expected)
    # Whole matrices kept, over a gigabyte of torch: 4,608 images × 9,600 units × 4 bytes = 177 MB more, and the goal isn't met.
    assert told["figures"]["memory_growth_mb"] == pytest.approx(176.9, abs=0.1)
    assert told["figures"]["memory_growth"] > 1.15 and not told["met"]
    assert "memory_growth_mb" in record.table(told)


def test_the_memory_of_a_pass_is_measured_in_a_process_of_its_own():
    measured = record._memory(2)
    # Torch and ResNet-18 take more than 100 MB, and a second pass over two images hardly more.
    assert measured.before > 10**8 and 0 <= measured.grown < 5 * 10**7
