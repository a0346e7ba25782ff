package e2e

import (
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/rekeyhq/rekey/internal/simcloud"
	"github.com/rekeyhq/rekey/internal/simcloud/scene"
	"github.com/rekeyhq/rekey/rotation"
)

// envCampaign is how long the campaign below lasts, like 10m; empty means a few rotations only.
const envCampaign = "REKEY_CAMPAIGN"

// faults are what can go wrong with any request of a rotation.
var faults = []simcloud.Fault{
	{Kind: simcloud.Refuse, Code: 503}, {Kind: simcloud.Refuse, Code: 429, RetryAfter: time.Second},
	{Kind: simcloud.DropBefore}, {Kind: simcloud.LoseReply},
}

func TestRandomKillsAndFaultsLeaveOneKeyAndNoOrphan(t *testing.T) {
	t.Parallel()
	until, least := time.Now(), 3
	if text := os.Getenv(envCampaign); text != "" {
		d, err := time.ParseDuration(text)
		if err != nil {
			t.Fatalf("%s: %v", envCampaign, err)
		}
		until = until.Add(d)
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	w := newTown(t, scene.Options{})
	for n := 0; n < least || time.Now().Before(until); n++ {
		var heal []func()
		for range 1 + random.IntN(3) {
			f := faults[random.IntN(len(faults))]
			f.Times, f.Skip = 1+random.IntN(2), random.IntN(60)
			heal = append(heal, w.Cloud.Inject(f))
		}
		run := w.start(rotation.Manual)
		stop := make(chan struct{})
		killed := make(chan struct{})
		go func() {
			defer close(killed)
			for range random.IntN(3) {
				select {
				case <-stop:
					return
				case <-time.After(time.Duration(random.IntN(4000)) * time.Millisecond):
					w.kill()
				}
			}
		}()
		res := w.end(run)
		close(stop)
		<-killed
		for _, h := range heal {
			h()
		}
		if res.Phase == rotation.Completed {
			w.replaced(res)
			w.oldID = w.Cloud.PublishedKeys()[scene.Path(scene.Alias, "ci")]
		} else if live := w.Cloud.LiveKeys(); len(live) != 1 || !slices.Contains([]string{w.Cloud.PublishedKeys()[scene.Path(scene.Latest, "ci")]}, w.oldID) {
			t.Errorf("rolled back (%s), but keys are %v", res.Outcome, live)
		}
		if t.Failed() {
			t.Fatalf("rotation %d of seed %d went wrong: %+v", n, seed, res)
		}
	}
	w.noSecrets()
}
