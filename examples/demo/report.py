"""The untrusted script: reads the orders, asks the host for each article, writes two reports."""

import csv
import json
import sys
from collections import Counter
from pathlib import Path

import hyperlight

data, out = Path(sys.argv[1]), Path(sys.argv[2])

sold, months = Counter(), Counter()
with open(data / "orders.csv", newline="") as file:
    orders = list(csv.DictReader(file))
articles = {
    sku: hyperlight.tools.article(sku=sku) for sku in sorted({order["sku"] for order in orders})
}
for order in orders:
    cents = int(order["quantity"]) * articles[order["sku"]]["price"]
    sold[order["sku"]] += cents
    months[order["date"][:7]] += cents

report = {
    "orders": len(orders),
    "articles": len(articles),
    "revenue_cents": sum(sold.values()),
    "by_article": {articles[sku]["name"]: cents for sku, cents in sold.most_common()},
    "by_month": dict(sorted(months.items())),
}
(out / "report.json").write_text(json.dumps(report, indent=2) + "\n")

lines = [f"# {len(orders)} orders", "", "| article | revenue |", "|---|---:|"]
lines += [f"| {name} | {cents / 100:,.2f} |" for name, cents in report["by_article"].items()]
(out / "report.md").write_text("\n".join(lines) + "\n")
print(
    f"{len(orders)} orders, {len(articles)} articles, {report['revenue_cents'] / 100:,.2f} in all"
)
