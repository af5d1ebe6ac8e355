"""Results for people: a table, a picture and a page that answer one question.

Which precision should each tensor of this network have, so that it runs fastest
on this hardware at the accuracy I need? The records that everything here reads
are in `records`; nothing here trains, searches or costs.
"""

from fbq.report.records import Change as Change
from fbq.report.records import LayerRow as LayerRow
from fbq.report.records import Point as Point
from fbq.report.records import Recommendation as Recommendation
from fbq.report.records import recommend as recommend
