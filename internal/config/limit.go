package config

import (
	"strconv"
	"strings"
)

// Limit bounds the steps of one provider's rotations. Zero means that the file does not say.
type Limit struct {
	// Rate is how many steps begin each second, over all workers.
	Rate float64
	// Concurrency is how many steps run at once, on each worker.
	Concurrency int
}

// maxLimit is more than any provider allows; a larger number is a slip of the finger.
const maxLimit = 10000

// limit reads how fast, and how many at once, the steps of a provider's rotations may go.
func (c *check) limit(where yamlPath, f fileProvider) (l Limit) {
	if f.Rate != "" {
		l.Rate = c.rate(where.field("rate"), f.Rate, "steps")
	}
	if f.Concurrency != "" {
		n, err := strconv.Atoi(f.Concurrency)
		if err != nil || n < 1 || n > maxLimit {
			c.problem(where.field("concurrency"), "%q is not a valid number of steps at once; expected 1 to %d", f.Concurrency, maxLimit)
		} else {
			l.Concurrency = n
		}
	}
	return l
}

// rate reads how many of something may happen, a second.
func (c *check) rate(where yamlPath, text, what string) float64 {
	count, unit, _ := strings.Cut(text, "/")
	n, err := strconv.Atoi(count)
	seconds := map[string]float64{"s": 1, "m": 60, "h": 3600}[unit]
	if err != nil || n < 1 || n > maxLimit || seconds == 0 {
		c.problem(where, "%q is not a valid rate; expected 1 to %d %s a second, minute or hour, like 50/s or 30/m", text, maxLimit, what)
		return 0
	}
	return float64(n) / seconds
}
