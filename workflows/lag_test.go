package workflows_test

import (
	"testing"
	"time"

	"github.com/rekeyhq/rekey/internal/simcloud"
	"github.com/rekeyhq/rekey/rotation"
)

// A store may show some of its readers the former value for a while after a promote, also when it shows us the new one.
func TestTheOldKeyIsKeptUntilTheLastReaderSeesTheNewOne(t *testing.T) {
	t.Parallel()
	const lag = 3 * time.Hour
	for sentence, c := range map[string]struct {
		during func(*fixture)
		grace  time.Duration
	}{
		"and for a grace period from then on": {grace: 48 * time.Hour},
		"although somebody ends the grace period at once": {during: func(r *fixture) {
			r.after(time.Minute, func() { r.signal(rotation.FinishGrace, rotation.DecisionMessage{}) })
		}},
	} {
		t.Run(sentence, func(t *testing.T) {
			s := bothStores().policy(quick, "quiet: 0s")
			s.opts.ReadLag = "3h"
			r := newFixture(t, s)
			if c.during != nil {
				c.during(r)
			}
			res := r.run()
			r.replaced(res)
			var promoted, taken time.Time
			for _, e := range r.Cloud.Journal() {
				switch {
				case e.Kind == simcloud.Published && e.KeyID == r.published():
					promoted = e.At
				case e.Kind == simcloud.KeyDeleted && e.KeyID == r.oldID:
					taken = e.At
				}
			}
			if kept := taken.Sub(promoted); kept < lag+c.grace || kept > lag+c.grace+time.Hour {
				t.Errorf("the old key was taken away %s after the new one was published, want %s", kept, lag+c.grace)
			}
			if seen := res.PublishedAt.Sub(promoted); seen < lag || seen > lag+time.Minute {
				t.Errorf("the result says that applications read it %s after the promote, want %s", seen, lag)
			}
		})
	}
}
