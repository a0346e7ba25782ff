package faults

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"sync"
	"time"
)

// The environment of a campaign.
const (
	// envFaults is how many schedules a campaign has, and how many single faults are tried, or "all" of those; empty means
	// a few.
	envFaults = "REKEY_FAULTS"
	// envSeed is the seed of a campaign; empty draws one. With envSchedule=seed it is that of one schedule.
	envSeed = "REKEY_FAULTS_SEED"
	// envSchedule is one schedule to tell again: what a failure prints.
	envSchedule = "REKEY_SCHEDULE"
	// envLog is the file that keeps what a campaign has done, so that one that was stopped goes on.
	envLog = "REKEY_FAULTS_LOG"
)

// entry is a line of a campaign's log. The first one has the campaign's seed and nothing else.
type entry struct {
	Campaign string `json:"campaign,omitempty"`
	// N is the number of a schedule that was told.
	N        int      `json:"n"`
	Schedule string   `json:"schedule,omitempty"`
	Events   int      `json:"events"`
	Broken   []string `json:"broken,omitempty"`
}

// campaign tells many schedules.
type campaign struct {
	seed    Seed
	n       int
	servers *servers
	// only, if set, says which schedules are told; the others count as if they did not exist.
	only func(Schedule) bool
	// log is where it writes what was told; nil for nowhere.
	log io.Writer

	mu sync.Mutex
	// told are the schedules that need not be told again.
	told map[int]bool
	// sum is what was told, also before this run.
	schedules, events, violations int
}

// resume reads the log of a campaign that was stopped, and goes on with it; a file that does not exist begins one.
func (c *campaign) resume(file string) error {
	f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE, 0o600) //nolint:gosec // whoever runs the campaign names it
	if err != nil {
		return fmt.Errorf("%s: %w", envLog, err)
	}
	c.log = f
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	var last int64
	for n := 1; lines.Scan(); n++ {
		var e entry
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			if rest, _ := io.ReadAll(f); len(rest) == 0 && !lines.Scan() {
				break // it was stopped while it wrote its last line
			}
			return fmt.Errorf("%s:%d: not a line of a campaign's log: %w. Name another file, or delete the line; its schedule is then told again", file, n, err)
		}
		last += int64(len(lines.Bytes())) + 1
		if n == 1 {
			if c.seed, err = ParseSeed(e.Campaign); err != nil {
				return fmt.Errorf("%s: %w", file, err)
			}
			continue
		}
		c.told[e.N] = true
		c.count(e)
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	if err := f.Truncate(last); err != nil {
		return err
	}
	if _, err := f.Seek(0, io.SeekEnd); err != nil {
		return err
	}
	if last == 0 {
		return c.write(entry{Campaign: c.seed.String()})
	}
	return nil
}

func (c *campaign) count(e entry) {
	c.schedules++
	c.events += e.Events
	if len(e.Broken) > 0 {
		c.violations++
	}
}

func (c *campaign) write(e entry) error {
	if c.log == nil {
		return nil
	}
	return json.NewEncoder(c.log).Encode(e)
}

// run tells all schedules that were not told yet, some at once, until the time is over. failed is called for each that broke
// something.
func (c *campaign) run(ctx context.Context, atOnce int, failed func(n int, s Schedule, broken []string)) error {
	work := make(chan int)
	var all sync.WaitGroup
	var problem error
	for range atOnce {
		all.Go(func() {
			for n := range work {
				s := Generate(uint64(c.seed.nth(n)))
				out, err := tell(context.WithoutCancel(ctx), s, c.servers)
				c.mu.Lock()
				if err == nil {
					e := entry{N: n, Schedule: s.String(), Events: out.happened, Broken: out.broken}
					c.count(e)
					err = c.write(e)
				}
				if err != nil {
					problem = errors.Join(problem, fmt.Errorf("%s: %w", s, err))
				}
				c.mu.Unlock()
				if len(out.broken) > 0 {
					failed(n, s, out.broken)
				}
			}
		})
	}
	for n, told := 0, 0; told < c.n; n++ {
		if c.only != nil && !c.only(Generate(uint64(c.seed.nth(n)))) {
			continue
		}
		told++
		c.mu.Lock()
		skip := c.told[n]
		stop := problem != nil
		c.mu.Unlock()
		if stop || ctx.Err() != nil {
			break
		}
		if !skip {
			work <- n
		}
	}
	close(work)
	all.Wait()
	return problem
}

func (c *campaign) String() string {
	return fmt.Sprintf("campaign: %d schedules, %d faults, %d violations", c.schedules, c.events, c.violations)
}

// repeat is the line that tells a schedule again.
func repeat(s Schedule) string {
	return fmt.Sprintf("%s='%s' go test ./tests/faults -run TestCampaign -v", envSchedule, s)
}

// shorten returns the shortest schedule that still breaks something of the same kind, and what it breaks.
func shorten(ctx context.Context, s Schedule, broken []string, servers *servers) (Schedule, []string) {
	until := time.Now().Add(5 * time.Minute)
	short := minimise(s, 40, func(c Schedule) bool {
		if time.Now().After(until) {
			return false
		}
		now, err := tell(ctx, c, servers)
		if err != nil || kind(now.broken) != kind(broken) {
			return false
		}
		broken = now.broken
		return true
	})
	return short, broken
}

// kind is the invariant that is broken first.
func kind(broken []string) string {
	if len(broken) == 0 {
		return ""
	}
	return cmp.Or(invariant.FindString(broken[0]), "other")
}

var invariant = regexp.MustCompile(`\bI\d+\b`)
