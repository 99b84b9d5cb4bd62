"""CSV as spreadsheets, data frames and clouds write it: read where it means one thing, else refused with the line."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from simserve.errors import TraceError
from simserve.workload.readers.dates import DateError, seconds_of_dates
from simserve.workload.trace import read_trace
from tests.workload.traces import AZURE, V1, V3, write

ROWS = "5,ChatGPT,472,18,490,Conversation log\n45,GPT-4,1087,230,1317,API log\n"


@pytest.mark.parametrize(
    "text",
    [
        "\ufeff" + V1 + ROWS,
        (V1 + ROWS).replace("\n", "\r\n"),
        (V1 + ROWS).replace("\n", "\r"),
        "\n\n" + V1 + ROWS,
        (V1 + ROWS).replace(",", ";"),
        (V1 + ROWS).replace(",", "\t"),
        (V1 + ROWS).replace(",", "|"),
        "\n".join(",".join(f'"{field}"' for field in line.split(",")) for line in (V1 + ROWS).splitlines()),
        "\n".join(f"{i - 1 if i else ''},{line}" for i, line in enumerate((V1 + ROWS).splitlines())),
        "\n".join(f"{i - 1 if i else 'Unnamed: 0'},{line}" for i, line in enumerate((V1 + ROWS).splitlines())),
        V1.replace("Request tokens", "request_tokens").replace("Timestamp", " timestamp ") + ROWS,
        V1 + ROWS.replace("1087", '"1,087"').replace(",472", ",472.0"),
        V1 + ROWS.replace("5,ChatGPT", "2024-01-01 00:00:05,ChatGPT").replace("45,GPT", "2024-01-01 00:00:45,GPT"),
        V1 + ROWS.replace("5,ChatGPT", "2024/01/01 00:00:05,ChatGPT").replace("45,GPT", "2024/01/01 00:00:45,GPT"),
        V1.strip() + ",note\n" + ROWS.replace("log\n", "log," + "x" * 300_000 + "\n"),
    ],
)
def test_layouts_that_mean_the_same(tmp_path, text):
    t = read_trace(write(tmp_path, text))
    assert t.arrival_s.tolist() == [0, 40] and t.prompt_tokens.tolist() == [472, 1087] and t.output_tokens.tolist() == [18, 230]
    assert t.log_type.names == ("Conversation log", "API log") and t.provenance["format"] == "burstgpt"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (V1.strip() + ",Model\n" + ROWS.replace("log\n", "log,x\n"), "line 1: column 'Model' is there twice"),
        (V1 + ROWS + '"1,472",ChatGPT,1,1,2,API log\n', "line 4: 'Timestamp' is '1,472', which may be a thousand or a fraction"),
        (V1 + ROWS + '9,ChatGPT,"1,47",1,2,API log\n', "line 4: 'Request tokens' is '1,47', not a number"),
        (V1 + ROWS + "9,ChatGPT," + "a" * 200_000 + ",1,2,API log\n", "line 4: 'Request tokens' is 'aaaa"),
        (V1 + ROWS + "9,ChatGPT,1_000,1,2,API log\n", "line 4: 'Request tokens' is '1_000', not a number"),
        (V1 + ROWS + "9,ChatGPT,99999999999,1,2,API log\n", "line 4: 'Request tokens' is '99999999999', more than 1,000,000,000"),
        (V1 + ROWS + "9,ChatGPT," + "9" * 400 + ",1,2,API log\n", "line 4: 'Request tokens' is '9999"),
        (V1 + ROWS + "9,ChatGPT,1,nan,2,API log\n", "line 4: 'Response tokens' is 'nan', not a finite number"),
        (AZURE + "2023-11-16 18:15:46,1,1\n2023-11-16 18:15:47Z,1,1\n", "line 3: 'TIMESTAMP' is '2023-11-16 18:15:47Z', has a zone offset"),
        (AZURE + "2023-11-16 18:15:46+01:00,1,1\n2023-11-16 18:15:47,1,1\n", "line 3: 'TIMESTAMP' is '2023-11-16 18:15:47', has no zone"),
        (AZURE + "2023-11-16 18:15:46,1,1\n16/11/2023 18:15,1,1\n", "line 3: 'TIMESTAMP' is '16/11/2023 18:15', may be day or month first"),
        (AZURE + "2023-11-16 18:15:46,1,1\n0001-11-16 18:15:46,1,1\n", "line 3: 'TIMESTAMP' is '0001-11-16 18:15:46', not a date and"),
        (AZURE + "2023-02-30 18:15:46,1,1\n", "line 2: 'TIMESTAMP' is '2023-02-30 18:15:46', not a date and time"),
        (AZURE + "1700000000,1,1\n", "line 2: 'TIMESTAMP' is '1700000000', not a date and time"),
    ],
)  # fmt: skip
def test_what_means_nothing_or_two_things_is_refused(tmp_path, text, words):
    path = write(tmp_path, text)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(TraceError) as e:
            read_trace(path)
    assert words in str(e.value) and len(str(e.value)) < 250 + len(str(path))


def test_zone_offsets_become_one_clock():
    # 10:00 in UTC five times, and one second later.
    texts = ["2024-05-10 10:00:00+00:00", "2024-05-10T10:00:00Z", "2024-05-10 12:00:00.000+0200", "2024-05-10 04:30:00-05:30",
             "2024-05-10 10:00:00 UTC", "2024-05-10T20:00:01.5+10"]  # fmt: skip
    assert seconds_of_dates(texts).tolist() == [36000.0] * 5 + [36001.5]
    assert seconds_of_dates(texts[:3]).tolist() == [36000.0] * 3  # read by Arrow's parser
    assert seconds_of_dates(["2023-11-16 23:59:59.5000001", "2023-11-17 00:00:00"])[1] == 86400
    with pytest.raises(DateError) as e:
        seconds_of_dates(["2024-05-10 10:00:00 UTC", "2024-05-10 10:00:00"])
    assert e.value.row == 1


def test_the_week_of_azure_2024_has_offsets_and_whole_seconds(tmp_path):
    rows = "2024-05-10 00:00:00.009930+00:00,2162,5\n2024-05-10 00:00:01+00:00,76,15\n"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        t = read_trace(write(tmp_path, AZURE + rows))
    assert t.arrival_s == pytest.approx([0, 0.99007], abs=1e-9) and t.provenance["read_as"]["summary"] == "azure, times as dates"


def test_answer_times_that_are_not_recorded_are_unknown_not_zero(tmp_path):
    rows = "10,a,3,GPT-4,5,6,11,Conversation log\n12,a,,GPT-4,5,6,11,Conversation log\n40,a,2,GPT-4,9,6,15,Conversation log\n"
    t = read_trace(write(tmp_path, V3 + rows))
    assert np.array_equal(t.elapsed_s, [3, np.nan, 2], equal_nan=True)
    # Think times: the gap less the answer where it is known, the whole gap where it is not.
    assert read_trace(tmp_path / "trace.csv", sessions="dependent").arrival_s.tolist() == [0, 0, 28]


def test_utf_16_is_named(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes((V1 + ROWS).encode("utf-16"))
    with pytest.raises(TraceError, match="is text in UTF-16; save it as UTF-8"):
        read_trace(path)
