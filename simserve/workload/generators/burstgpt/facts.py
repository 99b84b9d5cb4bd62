"""What is known about BurstGPT_1, as numbers. Everything here is a published or measured aggregate; no row of the trace is kept.

Source of the trace: HPMLL/BurstGPT (Wang et al., KDD 2025, doi 10.1145/3711896.3737413, arXiv 2401.17644), CC BY 4.0.
[W1] aggregate over the 19,431 rows of days 0-6; [H] aggregate over the hourly counts of all 61 days; [P] the publisher's README.
"""

from __future__ import annotations

import numpy as np

DAYS = 61  # length of BurstGPT_1 [H]
HOUR_S, DAY_S = 3600, 86400

# Totals [H]: rows by log type over the 61 days, failures (rows with 0 response tokens) [P].
CONVERSATION_ROWS = 154_219
API_ROWS = 1_275_518
FAILED_ROWS = 25_443

# Day 0 is a Wednesday: days with day % 7 in (3, 4) are the weekend [W1, H].
WEEKEND_DAYS = (3, 4)

# Mean conversation requests per local hour 0..23 [H].
WEEKDAY_PER_HOUR = np.array(
    [80.7, 49.0, 27.9, 13.9, 9.6, 7.0, 5.9, 6.8, 30.7, 150.2, 238.4, 227.9,
     94.7, 137.0, 221.6, 272.3, 278.1, 208.2, 126.7, 153.0, 169.6, 169.1, 149.6, 122.7]
)  # fmt: skip
WEEKEND_PER_HOUR = np.array(
    [44.1, 34.9, 18.6, 13.1, 5.2, 5.4, 3.6, 4.9, 12.2, 37.8, 81.1, 79.0,
     51.8, 68.6, 95.7, 127.7, 138.8, 114.5, 66.2, 84.3, 107.1, 117.9, 114.0, 93.3]
)  # fmt: skip
# Requests per day by day of the trace's week (Wed, Thu, Fri, Sat, Sun, Mon, Tue) [H].
PER_DAY_OF_WEEK = np.array([3153.0, 3112.0, 2596.0, 1367.0, 1672.0, 2929.0, 2961.0])
# Year-end decline [H]: level from day 46 on, linear down to this fraction on day 60.
DECLINE_FROM_DAY, DECLINE_TO = 45, 0.5

# The conversation rate around that profile is a lognormal multiplier. Variance of its log by correlation time, from the autocovariance
# of hourly counts over their profile in hours with > 60 requests [H]: 0.055 at 1 h, 0.041 at 2 h, 0.037 at 6 h, 0.023 at 24 h.
MULTIPLIER_DAY_VAR = 0.023
MULTIPLIER_SLOW_VAR, MULTIPLIER_SLOW_S = 0.016, 8 * HOUR_S
MULTIPLIER_FAST_VAR, MULTIPLIER_FAST_S = 0.033, 0.8 * HOUR_S
# At night, with few users, single users matter more: log-sd of hourly counts over their profile is 0.63 over all hours, 0.34 by day [H].
MULTIPLIER_NIGHT_VAR, NIGHT_BELOW_PER_HOUR = 0.60, 60.0

# API requests per hour [H]: fraction of hours without any, and the quantiles of the others.
API_ZERO_HOURS = 636 / 1464
API_HOUR_P = np.array([0.0, 0.10, 0.25, 0.50, 0.75, 0.90, 0.95, 0.99, 1.0])
API_HOUR_COUNT = np.array([1.0, 6, 92, 592, 1895, 3699, 5011, 14655, 33236])
# Fraction of zero hours by local hour [H]; hours without a published figure are interpolated.
API_ZERO_BY_HOUR_H = np.array([0, 4, 6, 10, 13, 15, 17, 21, 24])
API_ZERO_BY_HOUR = np.array([0.34, 0.85, 0.85, 0.30, 0.30, 0.13, 0.20, 0.20, 0.34])
# Latent Gaussian behind the hourly count: daily cycle + two AR(1), solved from the published autocorrelation of log(1 + count):
# 0.79 (1 h) 0.68 (2) 0.58 (3) 0.36 (6) 0.16 (12) 0.47 (24) 0.36 (48) 0.26 (168) [H]. (variance, correlation time in hours)
API_CYCLE_VAR = 0.25
API_SLOW = (0.44, 34.6)
API_FAST = (0.31, 1.1)
# API traffic begins on day 9: the nine days before hold 1,349 API rows, 81 % of their hours none [H].
API_ONSET_DAY, API_ZERO_BEFORE_ONSET = 9, 0.81

# Token quantiles of successful conversation rows [W1], and output quantiles given the input bin [W1].
INPUT_P = np.array([0.0, 0.01, 0.025, *np.arange(0.05, 0.951, 0.05).tolist(), 0.975, 0.99, 0.995, 1.0])
INPUT_TOKENS = {
    "ChatGPT": np.array([3.0, 12, 15, 18, 26, 39, 67, 108, 167, 233, 315, 395, 480, 575, 681, 805, 943, 1100, 1265, 1433, 1603, 1791,
                         1907, 1986, 2016, 2049]),
    "GPT-4": np.array([3.0, 14, 18, 23, 36, 62, 101, 163, 229, 312, 388, 459, 547, 642, 763, 888, 1021, 1169, 1347, 1523, 1782, 2141,
                       2469, 2819, 3103, 5087]),
}  # fmt: skip
INPUT_BIN_FROM = np.array([1, 16, 32, 64, 128, 256, 512, 1024, 1536, 2049])
OUTPUT_P = np.array([0.0, 0.05, 0.10, 0.25, 0.50, 0.75, 0.90, 0.95, 0.99, 1.0])
OUTPUT_TOKENS_BY_BIN = {
    "ChatGPT": np.array([
        [3.0, 9, 9, 36, 192, 350, 459, 535, 619, 699],
        [1, 11, 20, 85, 260, 408, 527, 593, 740, 1070],
        [2, 10, 17, 38, 183, 411, 597, 735, 1258, 2048],
        [1, 8, 15, 33, 98, 312, 557, 733, 1079, 2048],
        [1, 10, 17, 39, 134, 255, 408, 531, 802, 1589],
        [1, 12, 19, 53, 162, 316, 453, 534, 903, 2048],
        [3, 22, 41, 102, 231, 380, 536, 635, 931, 1430],
        [5, 53, 110, 211, 323, 452, 612, 739, 1075, 2019],
        [5, 93, 169, 286, 402, 538, 676, 770, 1147, 1899],
        [5, 93, 169, 286, 402, 538, 676, 770, 1147, 1899],
    ]),
    "GPT-4": np.array([
        [1.0, 9, 9, 24, 88, 206, 399, 448, 504, 583],
        [1, 22, 43, 123, 261, 357, 463, 537, 749, 950],
        [1, 12, 20, 58, 248, 382, 518, 586, 716, 959],
        [1, 6, 13, 40, 136, 301, 429, 521, 715, 978],
        [1, 10, 17, 55, 152, 275, 388, 504, 646, 1303],
        [1, 10, 18, 51, 156, 295, 410, 495, 599, 1180],
        [1, 25, 38, 94, 209, 332, 463, 526, 704, 1554],
        [9, 54, 94, 177, 283, 374, 485, 546, 696, 992],
        [16, 120, 171, 265, 356, 459, 574, 651, 874, 1099],
        [32, 181, 236, 346, 448, 568, 695, 823, 1093, 1569],
    ]),
}  # fmt: skip
GPT4_CONVERSATION_FRACTION = 0.343  # [W1]

# API requests: the published whole-file means (621 / 126 tokens of successful rows) less the conversations leave about 614 / 110.
# Only quantiles of mixtures are published (first 59,999 rows; v3), so the shape between them is ours, scaled to those two means.
API_INPUT_P = np.array([0.0, 0.05, 0.10, 0.25, 0.50, 0.75, 0.90, 0.95, 0.99, 1.0])
API_INPUT_TOKENS = np.array([4.0, 35, 70, 190, 440, 730, 1310, 2050, 3100, 6000])
API_INPUT_MEAN = 614.0
API_OUTPUT_P = np.array([0.0, 0.10, 0.25, 0.50, 0.75, 0.90, 0.95, 0.99, 1.0])
API_OUTPUT_TOKENS = np.array([1.0, 2, 5, 18, 120, 370, 530, 800, 1600])
API_OUTPUT_MEAN = 110.0
GPT4_API_FRACTION = 0.10  # v3: 89.6 % of all rows are ChatGPT

# Failures. Conversation 8.03 %, and P(fail | the row before failed) = 0.204 [W1]: outages, in which most requests fail, over a base.
CONVERSATION_FAILED = 0.0803
API_FAILED = (FAILED_ROWS - CONVERSATION_FAILED * CONVERSATION_ROWS) / API_ROWS
FAILED_AFTER_FAILED = 0.204
OUTAGE_FRACTION, OUTAGE_S, OUTAGE_FAILED = 0.032, 600, 0.65
OUTAGE_API_FAILED = 0.10
# Relative failure rate by local hour: 1-5 % at 00-04 and 09, 7-11 % at 11-19, 13-14 % at 22-23 [W1]; scaled to the mean above.
FAILED_BY_HOUR = np.array([4.0, 3, 3, 3, 3, 5, 5, 5, 5, 3.5, 7, 8, 8, 9, 9, 9, 9, 9, 9, 9, 9.5, 11, 13.5, 13.5])

# Sessions of BurstGPT_3 (the only part with session ids): turns, gaps between starts, new user text. Means and quantiles as published.
TURNS_P_1_TO_10 = np.array([0.355, 0.204, 0.119, 0.076, 0.051, 0.037, 0.028, 0.021, 0.018, 0.013])
TURNS_TAIL = ((0.922, 10.0), (0.99, 31.0), (0.9997, 80.0), (1.0, 436.0))  # (probability, turns)
TURNS_MEAN = 4.18
GAP_MAX_S = 3 * DAY_S
GAP_P = np.array([0.0, 0.10, 0.25, 0.50, 0.75, 0.90, 0.99, 1.0])
GAP_S = np.array([3.0, 20, 42, 131, 533, 2340, 78_903, GAP_MAX_S])  # between starts of turns; interpolated in the logarithm
FIRST_INPUT_P = np.array([0.0, 0.10, 0.50, 0.75, 0.90, 0.99, 1.0])
FIRST_INPUT_TOKENS = np.array([5.0, 12, 49, 125, 380, 1500, 4000])
USER_TEXT_P = np.array([0.0, 0.10, 0.50, 0.90, 0.99, 1.0])
USER_TEXT_TOKENS = np.array([3.0, 14, 34, 131, 900, 3000])
SESSION_OUTPUT_P = np.array([0.0, 0.10, 0.50, 0.75, 0.90, 0.99, 1.0])
SESSION_OUTPUT_TOKENS = np.array([1.0, 15, 187, 350, 669, 1067, 2048])
HISTORY_BROKEN = 0.27  # fraction of later turns that do not resend the full history
# Answer time of the source system: seconds + seconds per output token, (ChatGPT, GPT-4) [400 rows of BurstGPT_3].
ELAPSED_BASE_S, ELAPSED_PER_TOKEN_S = np.array([1.10, 0.36]), np.array([0.0109, 0.116])
