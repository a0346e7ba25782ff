package faults

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"

	"github.com/rekeyhq/rekey/internal/simcloud/scenario"
	"github.com/rekeyhq/rekey/rotation"
)

// Schedule is one story of the campaign: a key, what rotates it, and what happens meanwhile. Its text is the one line that
// repeats it.
type Schedule struct {
	// Settings are the key and its surroundings, by name; see settings.
	Settings map[string]string
	// Events are what goes wrong, and what people do.
	Events []Event
}

// Event is something that happens at the N-th request to the cloud, activity or notification, counted from 0.
type Event struct {
	At   counter
	N    int
	What string
}

// counter says what is counted.
type counter string

const (
	// atRequest: the request goes wrong.
	atRequest counter = "request"
	// atActivity: it happens before the activity begins.
	atActivity counter = "activity"
	// atNotice: so the person takes the notification.
	atNotice counter = "notice"
)

// setting is a part of a schedule that has one of a few values, the usual one first.
type setting struct {
	name   string
	values []string
	// odds are how often each is drawn.
	odds []int
}

// The settings' names.
const (
	ofProvider, ofStores, ofReason, ofApproval, ofGrace, ofSoak, ofLags, ofWorkers, ofTemporal = "provider", "stores", "reason", "approve", "grace", "soak", "lags", "workers", "temporal"
)

// settings are all of them, in the order in which they are written.
var settings = []setting{
	{ofProvider, []string{"google", "openai"}, []int{2, 1}},
	{ofStores, []string{
		scenario.Alias, scenario.Latest, scenario.AWS, scenario.Alias + "," + scenario.Latest, scenario.AWS + "," + scenario.Alias, scenario.Latest + "," + scenario.Local,
		scenario.Alias + "," + scenario.AWS + "," + scenario.Latest,
	}, []int{2, 1, 2, 2, 2, 1, 1}},
	{ofReason, []string{string(rotation.Manual), string(rotation.Emergency), "revoke-first"}, []int{4, 2, 1}},
	{ofApproval, []string{"no", "yes"}, []int{3, 1}},
	{ofGrace, []string{"48h", "1h", "0s"}, []int{2, 2, 1}},
	{ofSoak, []string{"1h", "0s", "24h"}, []int{2, 1, 1}},
	// Of the cloud; rekey.yaml declares as much.
	{ofLags, []string{"none", "some"}, []int{1, 1}},
	// 0: in the process of the test; otherwise so many processes.
	{ofWorkers, []string{"0", "1", "2"}, []int{6, 1, 1}},
	// lies: its database fails, and says that it has failed when it has not; file: it can be stopped.
	{ofTemporal, []string{"memory", "lies", "file"}, []int{12, 3, 1}},
}

// requestFaults and the other lists are what events can be, each as often as it stands there.
var (
	requestFaults    = append(slices.Clone(singles), "hang")
	killsAtRequest   = []string{"kill-before", "kill-after"}
	acts             = []string{"terminate", "cancel", "reset", "reset", "roll-back", "finish-grace", "extend-grace", "emergency", "emergency", "revoke-first", "start", "note"}
	killsAtActivity  = []string{"kill", "kill", "kill-end"}
	serverActs       = []string{"restart"}
	mistakesOfPeople = []string{"late", "twice", "wrong", "reject", "roll-back"}
)

func known(at counter) []string {
	switch at {
	case atRequest:
		return slices.Concat(requestFaults, killsAtRequest)
	case atActivity:
		return slices.Concat(acts, killsAtActivity, serverActs)
	case atNotice:
		return mistakesOfPeople
	}
	return nil
}

// String is the line that Parse reads: settings that are as usual are left out.
func (s Schedule) String() string {
	var words []string
	for _, k := range settings {
		if v := s.Settings[k.name]; v != k.values[0] {
			words = append(words, k.name+"="+v)
		}
	}
	for _, e := range s.Events {
		words = append(words, e.String())
	}
	return cmp.Or(strings.Join(words, " "), "nothing")
}

func (e Event) String() string { return fmt.Sprintf("%s/%d/%s", e.At, e.N, e.What) }

// Parse reads the text of a schedule.
func Parse(text string) (Schedule, error) {
	s := usual()
	bad := func(word, format string, args ...any) (Schedule, error) {
		return Schedule{}, fmt.Errorf("schedule: %q: %s", word, fmt.Sprintf(format, args...))
	}
	words := strings.Fields(text)
	if len(words) == 0 {
		return bad(text, "expected settings such as %s=%s and events such as request/17/lose, or nothing", settings[0].name, settings[0].values[1])
	}
	for _, word := range words {
		if word == "nothing" {
			continue
		}
		if name, value, ok := strings.Cut(word, "="); ok {
			i := slices.IndexFunc(settings, func(k setting) bool { return k.name == name })
			if i < 0 {
				return bad(word, "there is no setting %s", name)
			}
			if !slices.Contains(settings[i].values, value) {
				return bad(word, "%s is one of %s", name, strings.Join(settings[i].values, ", "))
			}
			s.Settings[name] = value
			continue
		}
		parts := strings.Split(word, "/")
		if len(parts) != 3 {
			return bad(word, "expected name=value, or an event such as request/17/lose")
		}
		n, err := strconv.Atoi(parts[1])
		if err != nil || n < 0 {
			return bad(word, "%q does not count anything; expected 0 or more", parts[1])
		}
		whats := known(counter(parts[0]))
		if whats == nil {
			return bad(word, "events happen at a %s, %s or %s", atRequest, atActivity, atNotice)
		}
		if !slices.Contains(whats, parts[2]) {
			return bad(word, "at a %s there is one of %s", parts[0], strings.Join(whats, ", "))
		}
		s.Events = append(s.Events, Event{counter(parts[0]), n, parts[2]})
	}
	return s, s.check()
}

// check returns an error for events that need other surroundings.
func (s Schedule) check() error {
	for _, e := range s.Events {
		if strings.HasPrefix(e.What, "kill") && s.Settings[ofWorkers] == "0" {
			return fmt.Errorf("schedule: %q: only a worker in a process of its own can be killed; add %s=1", e, ofWorkers)
		}
		if slices.Contains(serverActs, e.What) && s.Settings[ofTemporal] != "file" {
			return fmt.Errorf("schedule: %q: only a Temporal on a file can be started again; add %s=file", e, ofTemporal)
		}
	}
	return nil
}

func usual() Schedule {
	s := Schedule{Settings: map[string]string{}}
	for _, k := range settings {
		s.Settings[k.name] = k.values[0]
	}
	return s
}

// Generate returns the schedule of a seed.
func Generate(seed uint64) Schedule {
	dice := rand.New(rand.NewPCG(seed, 11)) //nolint:gosec // dice, not secrets
	s := usual()
	for _, k := range settings {
		s.Settings[k.name] = k.values[weighted(dice, k.odds)]
	}
	one := func(of []string) string { return of[dice.IntN(len(of))] }
	requests, doings := requestFaults, acts
	if s.Settings[ofWorkers] != "0" {
		requests, doings = slices.Concat(requests, killsAtRequest), slices.Concat(doings, killsAtActivity, killsAtActivity)
	}
	for range dice.IntN(4) {
		s.Events = append(s.Events, Event{atRequest, dice.IntN(120), one(requests)})
	}
	for range weighted(dice, []int{3, 3, 2, 1}) {
		s.Events = append(s.Events, Event{atActivity, dice.IntN(25), one(doings)})
	}
	if s.Settings[ofTemporal] == "file" {
		s.Events = append(s.Events, Event{atActivity, dice.IntN(20), one(serverActs)})
	}
	if s.Settings[ofProvider] == "openai" || s.Settings[ofApproval] == "yes" {
		for range dice.IntN(3) {
			s.Events = append(s.Events, Event{atNotice, dice.IntN(5), one(mistakesOfPeople)})
		}
	}
	return s
}

func weighted(dice *rand.Rand, odds []int) int {
	var sum int
	for _, o := range odds {
		sum += o
	}
	n := dice.IntN(sum)
	for i, o := range odds {
		if n -= o; n < 0 {
			return i
		}
	}
	panic("unreachable")
}

// generation names what Generate makes of seeds: other code makes other schedules of the same numbers.
var generation = func() string {
	sum := sha256.New()
	for seed := range uint64(200) {
		fmt.Fprintln(sum, Generate(seed))
	}
	return hex.EncodeToString(sum.Sum(nil))[:6]
}()

// Seed is a number from which Generate makes a schedule, with the generation that does so.
type Seed uint64

func (s Seed) String() string { return fmt.Sprintf("%s-%016x", generation, uint64(s)) }

// ParseSeed reads a seed that this code made.
func ParseSeed(text string) (Seed, error) {
	from, digits, ok := strings.Cut(text, "-")
	n, err := strconv.ParseUint(digits, 16, 64)
	if !ok || err != nil || len(digits) != 16 {
		return 0, fmt.Errorf("seed %q: expected one like %s", text, Seed(1))
	}
	if from != generation {
		return 0, fmt.Errorf("seed %q was made by other code (this one's begin with %s) and means another story here. Check out the commit that printed it, or repeat the schedule that was printed beside it: %s='…'", text, generation, envSchedule)
	}
	return Seed(n), nil
}

// nth is the seed of the n-th schedule of a campaign.
func (s Seed) nth(n int) Seed {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], uint64(s))
	binary.BigEndian.PutUint64(b[8:], uint64(n))
	sum := sha256.Sum256(b[:])
	return Seed(binary.BigEndian.Uint64(sum[:8]))
}

// shorter returns schedules that are the same with a little less in them, those with least first.
func (s Schedule) shorter() []Schedule {
	var all []Schedule
	with := func(events []Event) {
		c := Schedule{Settings: maps.Clone(s.Settings), Events: events}
		if c.check() == nil {
			all = append(all, c)
		}
	}
	if n := len(s.Events); n > 1 {
		with(slices.Clone(s.Events[:n/2]))
		with(slices.Clone(s.Events[n/2:]))
	}
	for i := range s.Events {
		with(slices.Delete(slices.Clone(s.Events), i, i+1))
	}
	for _, k := range settings {
		if s.Settings[k.name] != k.values[0] {
			c := Schedule{Settings: maps.Clone(s.Settings), Events: s.Events}
			c.Settings[k.name] = k.values[0]
			if c.check() == nil {
				all = append(all, c)
			}
		}
	}
	return all
}

// minimise returns the shortest schedule that it finds for which fails still reports true, in at most tries runs.
func minimise(s Schedule, tries int, fails func(Schedule) bool) Schedule {
	for again := true; again; {
		again = false
		for _, c := range s.shorter() {
			if tries--; tries < 0 {
				return s
			}
			if fails(c) {
				s, again = c, true
				break
			}
		}
	}
	return s
}
