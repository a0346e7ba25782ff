package faults

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// few is how many schedules go test tells.
const few = 4

// atOnce is how many schedules are told at once: most of them wait, for a worker that was killed or a request that hangs.
const atOnce = 14

// TestCampaign tells schedules that nobody has thought of. What it finds goes, in its shortest form, into
// testdata/regressions.
func TestCampaign(t *testing.T) {
	t.Parallel()
	servers := newServers(t)
	if text := os.Getenv(envSchedule); text != "" {
		tellOne(t, servers, text)
		return
	}
	c := &campaign{seed: Seed(rand.Uint64()), n: few, servers: servers, told: map[int]bool{}}
	var err error
	if text := os.Getenv(envSeed); text != "" {
		if c.seed, err = ParseSeed(text); err != nil {
			t.Fatalf("%s: %v", envSeed, err)
		}
	}
	if os.Getenv(envFaults) == "" {
		// A Temporal that lies, or is started again, takes a minute of its own.
		c.only = func(s Schedule) bool { return s.Settings[ofTemporal] == "memory" }
	}
	if text := os.Getenv(envFaults); text != "" && text != "all" {
		if c.n, err = strconv.Atoi(text); err != nil || c.n < 1 {
			t.Fatalf("%s=%q: expected a number of schedules, or all", envFaults, text)
		}
	}
	if file := os.Getenv(envLog); file != "" {
		if err := c.resume(file); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%s=%s: %d schedules, of which %d were told before", envSeed, c.seed, c.n, len(c.told))
	began := time.Now()
	if err := c.run(t.Context(), atOnce, func(n int, s Schedule, broken []string) {
		short, broken := shorten(context.Background(), s, broken, servers)
		t.Errorf("schedule %d of %s (%s)\n  %s\n  %s", n, c.seed, s, repeat(short), strings.Join(broken, "\n  "))
	}); err != nil {
		t.Error(err)
	}
	t.Logf("%.0f s", time.Since(began).Seconds())
	fmt.Println(c)
}

// tellOne tells one schedule: a text, or "seed" and the seed beside it.
func tellOne(t *testing.T, servers *servers, text string) {
	t.Helper()
	s, err := Parse(text)
	if text == "seed" {
		var seed Seed
		if seed, err = ParseSeed(os.Getenv(envSeed)); err == nil {
			s = Generate(uint64(seed))
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	out, err := tell(t.Context(), s, servers)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s: %d of %d events happened", s, out.happened, len(s.Events))
	if len(out.broken) > 0 {
		for _, e := range out.journal {
			t.Logf("%d %s %s %s %s %s %s %s %s", e.Seq, e.At.Format(time.DateTime), e.Kind, e.Service, e.Method, e.Target, e.KeyID, e.Stamp, e.Version)
		}
	}
	for _, b := range out.broken {
		t.Error(b)
	}
}

func TestWhatACampaignOnceFoundStaysMended(t *testing.T) {
	t.Parallel()
	f, err := os.Open("testdata/regressions")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	servers := newServers(t)
	lines := bufio.NewScanner(f)
	t.Run("all", func(t *testing.T) {
		for n := 1; lines.Scan(); n++ {
			line := strings.TrimSpace(lines.Text())
			if line == "" || strings.HasPrefix(line, "#") {
				continue
			}
			s, err := Parse(line)
			if err != nil {
				t.Fatalf("testdata/regressions:%d: %v", n, err)
			}
			t.Run(line, func(t *testing.T) {
				t.Parallel()
				out, err := tell(t.Context(), s, servers)
				if err != nil {
					t.Fatal(err)
				}
				for _, b := range out.broken {
					t.Error(b)
				}
			})
		}
	})
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
}
