package engine_test

import (
	"testing"
	"time"

	"github.com/rekeyhq/rekey/internal/simcloud"
	"github.com/rekeyhq/rekey/rotation"
)

// weekOfWaiting is how many events a week of waiting may cost, once people know; with two channels that are both reminded three
// times, which is 17 events each, it is one more.
const weekOfWaiting, withTwoChannels = 50, 51

func TestAWeekOfWaitingFillsNoHistory(t *testing.T) {
	t.Parallel()
	leaked := func(r *skipping) { r.emergency(rotation.DecisionMessage{By: "ana", Why: "leaked"}) }
	contain := func(r *skipping) { r.emergency(rotation.DecisionMessage{By: "ana", Why: "leaked", RevokeFirst: true}) }
	outage := func(r *skipping) {
		r.Cloud.Inject(simcloud.Fault{Service: sm, Kind: simcloud.Refuse, Code: 503})
	}
	for sentence, tc := range map[string]struct {
		setup setup
		// begin makes the wait.
		begin []func(*skipping)
		// twoChannels: one of them is told when the other has not helped.
		twoChannels bool
		// overdue: it is not the first week.
		overdue bool
		phase   rotation.Phase
	}{
		"for a new key":                          {setup: manualKey(), phase: rotation.AwaitingKey},
		"for a new key, and two channels know":   {setup: manualKey(), twoChannels: true, phase: rotation.AwaitingKey},
		"for a new key, in an emergency":         {setup: manualKey(), begin: []func(*skipping){leaked}, phase: rotation.AwaitingKey},
		"for a containment":                      {setup: manualKey(), begin: []func(*skipping){contain}, phase: rotation.AwaitingRevocation},
		"for a containment, overdue":             {setup: manualKey(), begin: []func(*skipping){contain}, overdue: true, phase: rotation.AwaitingRevocation},
		"for a store":                            {setup: googleKey(), begin: []func(*skipping){outage}, phase: rotation.Prepare},
		"for a store, and two channels know":     {setup: googleKey(), begin: []func(*skipping){outage}, twoChannels: true, phase: rotation.Prepare},
		"for a store, in an emergency":           {setup: googleKey(), begin: []func(*skipping){outage, leaked}, phase: rotation.Prepare},
		"for a store, overdue":                   {setup: googleKey(), begin: []func(*skipping){outage}, overdue: true, phase: rotation.Prepare},
		"for a store, overdue, without patience": {setup: googleKey("patience: 30m"), begin: []func(*skipping){outage}, twoChannels: true, overdue: true, phase: rotation.Prepare},
		"for a store, overdue, in an emergency":  {setup: googleKey(), begin: []func(*skipping){outage, leaked}, overdue: true, phase: rotation.Prepare},
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			most := weekOfWaiting
			s := tc.setup.told(t)
			if tc.twoChannels {
				s.opts.Policy, most = append(s.opts.Policy, "escalate: [oncall]"), withTwoChannels
			}
			r := newSkipping(t, s)
			for _, begin := range tc.begin {
				begin(r)
			}
			// Behind the week is the deadline, where another thing may begin.
			from, to := 10*time.Minute, 7*day-time.Second
			if tc.overdue {
				from, to = from+7*day+time.Hour, to+7*day+time.Hour
			}
			before := 0
			r.at(from, func() { before = r.longest() })
			r.at(to, func() {
				cost, s := r.longest()-before, r.status()
				t.Logf("%d events; told: %+v", cost, s.Deliveries)
				if s.Phase != tc.phase || s.Overdue != tc.overdue {
					t.Errorf("it waits in %s, overdue: %t:\n%s", s.Phase, s.Overdue, s.Details)
				}
				if cost > most || len(r.histories) > 1 {
					t.Errorf("a week of waiting cost %d events, in %d runs; %d are allowed", cost, len(r.histories), most)
				}
				if r.wantTold(); cost == 0 {
					t.Error("nothing was written at all: the test counts nothing")
				}
				r.end()
			})
			r.run(20 * day)
		})
	}
}
