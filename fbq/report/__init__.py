"""Results for people: pages made of blocks, pictures, and records of points.

Nothing here trains, searches or costs, and nothing knows an experiment.
"""

from fbq.report.records import Change as Change
from fbq.report.records import LayerRow as LayerRow
from fbq.report.records import Point as Point
from fbq.report.records import Recommendation as Recommendation
from fbq.report.records import recommend as recommend
