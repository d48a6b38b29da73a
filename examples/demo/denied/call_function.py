"""Call a function that was not granted."""

import hyperlight

print(hyperlight.tools.refund(order=1))
