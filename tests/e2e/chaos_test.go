package e2e

import (
	"context"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/rekeyhq/rekey/internal/simcloud"
	"github.com/rekeyhq/rekey/internal/simcloud/scenario"
	"github.com/rekeyhq/rekey/rotation"
)

// envChaos is how long rotations go on under random faults and kills, like 10m; empty means a few rotations only.
const envChaos = "REKEY_CHAOS"

// steps are all of them when chaos lasts, and otherwise some: killing a worker costs seconds, and what every step shares is
// tried with the automatic rotation anyway.
func steps(all []string, some ...string) []string {
	if os.Getenv(envChaos) != "" {
		return all
	}
	return some
}

// faults are what can go wrong with any request of a rotation.
var faults = []simcloud.Fault{
	{Kind: simcloud.Refuse, Code: 503}, {Kind: simcloud.Refuse, Code: 429, RetryAfter: time.Second},
	{Kind: simcloud.DropBefore}, {Kind: simcloud.LoseReply},
}

// chaos rotates the key again and again, while faults and kills come at random. each is run with every
// rotation until it is told to stop; judge looks at how the rotation ended.
func (w *env) chaos(least int, each func(random *rand.Rand, stop <-chan struct{}), judge func(rotation.Result)) {
	w.Helper()
	until := time.Now()
	if text := os.Getenv(envChaos); text != "" {
		d, err := time.ParseDuration(text)
		if err != nil {
			w.Fatalf("%s: %v", envChaos, err)
		}
		until = until.Add(d)
	}
	seed := rand.Uint64()
	w.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for n := 0; n < least || time.Now().Before(until); n++ {
		res := w.underFire(random, each)
		w.Logf("rotation %d: %s. %s", n, res.Phase, res.Outcome)
		judge(res)
		if w.Failed() {
			w.Fatalf("rotation %d of seed %d went wrong: %+v", n, seed, res)
		}
	}
	w.noSecrets()
}

// underFire runs one rotation of chaos.
func (w *env) underFire(random *rand.Rand, each func(*rand.Rand, <-chan struct{})) rotation.Result {
	w.Helper()
	for range 1 + random.IntN(3) {
		f := faults[random.IntN(len(faults))]
		f.Times, f.Skip = 1+random.IntN(2), random.IntN(60)
		defer w.Cloud.Inject(f)()
	}
	run := w.start(rotation.Manual)
	stop := make(chan struct{})
	var busy sync.WaitGroup
	defer busy.Wait()
	defer close(stop)
	// Everybody has dice of their own.
	kills, others := rand.New(rand.NewPCG(random.Uint64(), 1)), rand.New(rand.NewPCG(random.Uint64(), 2))
	busy.Go(func() {
		for range kills.IntN(3) {
			select {
			case <-stop:
				return
			case <-time.After(time.Duration(kills.IntN(4000)) * time.Millisecond):
				w.KillWorker()
			}
		}
	})
	busy.Go(func() { each(others, stop) })
	return w.end(run)
}

func TestRandomKillsAndFaultsLeaveOneKeyAndNoOrphan(t *testing.T) {
	t.Parallel()
	w := newEnv(t, scenario.Options{})
	nobody := func(*rand.Rand, <-chan struct{}) {}
	w.chaos(3, nobody, func(res rotation.Result) {
		if res.Phase == rotation.Completed {
			w.replaced(res)
			w.oldID = w.Cloud.PublishedKeys()[scenario.Path(scenario.Alias, w.name)]
		} else if live := w.Cloud.LiveKeys(); len(live) != 1 || w.Cloud.PublishedKeys()[scenario.Path(scenario.Latest, w.name)] != w.oldID {
			t.Errorf("rolled back (%s), but keys are %v", res.Outcome, live)
		}
	})
}

func TestAPersonWhoActsAtRandomUnderRandomKillsAndFaultsNeverTakesTheKeyFromApplications(t *testing.T) {
	t.Parallel()
	p := newByHand(t, scenario.Options{Propagation: "5s", RevocationLag: "1s"})
	p.chaos(2, p.live, func(res rotation.Result) {
		published, live := p.Cloud.PublishedKeys(), p.Cloud.LiveKeys()
		id := published[scenario.Path(scenario.Alias, p.name)]
		_, works := live[id]
		_, oldWorks := live[p.oldID]
		switch {
		case id != published[scenario.Path(scenario.Latest, p.name)] || !works:
			t.Errorf("applications read %v; keys: %v", published, live)
		case res.Phase == rotation.Completed && (id == p.oldID || oldWorks || p.names[res.New] != id):
			t.Errorf("completed with %s, but applications read %s; the old key %s exists: %v", res.New, id, p.oldID, oldWorks)
		case res.Phase == rotation.RolledBack && id != p.oldID:
			t.Errorf("rolled back (%s), but applications read %s, not %s", res.Outcome, id, p.oldID)
		}
		// What the person made and the rotation did not take, the person clears away.
		for other := range live {
			if other == id {
				continue
			}
			if err := p.OpenAI.DeleteKey(other); err != nil {
				t.Error(err)
			}
		}
		p.oldID = id
	})
}

// live is a person at work: now and then they look where the rotation stands, and do one of the things that people do.
func (p *person) live(random *rand.Rand, stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		case <-time.After(time.Duration(random.IntN(600)) * time.Millisecond):
		}
		s, err := p.status()
		if err != nil {
			continue
		}
		accepts := func(k rotation.DecisionKind) bool { return slices.Contains(s.Accepts, k) }
		switch {
		case accepts(rotation.RollBack) && random.IntN(40) == 0:
			// A signal is there before the next look.
			_ = p.signal(rotation.RollBack)
		case accepts(rotation.KeySupplied):
			p.supplySomething(random)
		case accepts(rotation.KeyRevoked):
			// One in four only says so. In reverse it is the new key that has to go.
			id := p.oldID
			if s.Phase == rotation.RollingBack {
				id = p.names[s.New]
			}
			if random.IntN(4) > 0 {
				// It is gone already if an earlier word of this person was lost.
				_ = p.OpenAI.DeleteKey(id)
			}
			_ = p.tryTell(rotation.KeyRevoked, rotation.DecisionMessage{By: "a person"})
		case accepts(rotation.Approve):
			_ = p.tryTell(rotation.Approve, rotation.DecisionMessage{By: "a person"})
		}
	}
}

// supplySomething supplies a key, mostly well.
func (p *person) supplySomething(random *rand.Rand) {
	version := ""
	switch random.IntN(6) {
	case 0: // the old one, by mistake, with another tool
		l := p.key().Stores[0]
		old, err := p.Setup.Stores[l.Store].Published(context.Background(), l.Path)
		if err == nil {
			version, err = p.Setup.Stores[l.Store].Add(context.Background(), l.Path, old)
		}
		if err != nil {
			return
		}
	case 1: // cut off before the rotation is told
		_, v := p.create()
		_, _ = p.tryStage(v)
		return
	case 2: // what stands there, if anything does
		_ = p.signal(rotation.KeySupplied)
		return
	default:
		_, v := p.create()
		var err error
		if version, err = p.tryStage(v); err != nil {
			return
		}
	}
	_ = p.tryTell(rotation.KeySupplied, rotation.DecisionMessage{By: "a person", Version: version})
}

func (p *person) signal(k rotation.DecisionKind) error {
	return p.Client.SignalWorkflow(context.Background(), p.id(), "", string(k), rotation.DecisionMessage{By: "a person", Why: "the dice say so"})
}
