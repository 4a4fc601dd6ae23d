"""The comparison of uploads in small: that both sides run against a real server. How fast is for the benchmark to say."""

from benchmarks.uploading import upload_ratio


def test_sprites_are_uploaded_both_ways():
    assert upload_ratio(rounds=1, sprites=3, workers=3) > 0
