package config

import (
	"strconv"
	"strings"

	"github.com/rekeyhq/rekey/activities"
)

// maxLimit is more than any provider allows; a larger number is a slip of the finger.
const maxLimit = 10000

// limit reads how fast, and how many at once, the steps of a provider's rotations may go.
func (c *check) limit(where at, f fileProvider) (l activities.Limit) {
	if f.Rate != "" {
		count, unit, _ := strings.Cut(f.Rate, "/")
		n, err := strconv.Atoi(count)
		seconds := map[string]float64{"s": 1, "m": 60, "h": 3600}[unit]
		if err != nil || n < 1 || n > maxLimit || seconds == 0 {
			c.problem(where.field("rate"), "%q is no rate; expected 1 to %d steps a second, minute or hour, like 50/s or 30/m", f.Rate, maxLimit)
		} else {
			l.Rate = float64(n) / seconds
		}
	}
	if f.Concurrency != "" {
		n, err := strconv.Atoi(f.Concurrency)
		if err != nil || n < 1 || n > maxLimit {
			c.problem(where.field("concurrency"), "%q is no number of steps at once; expected 1 to %d", f.Concurrency, maxLimit)
		} else {
			l.Concurrency = n
		}
	}
	return l
}
