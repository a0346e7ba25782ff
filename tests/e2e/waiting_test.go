package e2e

import (
	"context"
	"strings"
	"testing"

	enumspb "go.temporal.io/api/enums/v1"

	"github.com/rekeyhq/rekey/internal/simcloud"
	"github.com/rekeyhq/rekey/internal/simcloud/scenario"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/workflows/replaytest"
)

func TestAStepThatIsBlockedIsTriedAgainAndGoesOn(t *testing.T) {
	t.Parallel()
	w := newEnv(t, scenario.Options{})
	w.keep("blocked")
	// A permission that somebody gives after the second try.
	w.Cloud.Inject(simcloud.Fault{Service: "google-iam", Method: "DeleteServiceAccountKey", Times: 2, Kind: simcloud.Refuse, Code: 403})
	run := w.start(rotation.Manual)
	w.eventually("the rotation says that it is blocked", func(s rotation.Status) bool {
		return s.Phase == rotation.Revoke && strings.Contains(s.Details, "**Blocked:**")
	})
	w.replaced(w.end(run))
}

// oversized is a signal that nobody can use, nearly as large as Temporal takes one: five of them make a history that is
// too long.
var oversized = []string{strings.Repeat("not a message ", 60_000)}

func TestARotationWhoseHistoryHasGrownTooLongGoesOnInANewRun(t *testing.T) {
	t.Parallel()
	p := newByHand(t, scenario.Options{})
	run := p.start(rotation.Manual)
	p.waitFor(rotation.AwaitingKey)
	for range 6 {
		if err := p.Client.SignalWorkflow(context.Background(), p.id(), "", string(rotation.AddNote), oversized); err != nil {
			t.Fatal(err)
		}
	}
	id, v := p.supply()
	p.revoke()
	res := p.end(run)
	p.replacedBy(res, id, v)
	if res.Rotation != rotation.ID(run.GetRunID()) {
		t.Errorf("another rotation, %s, has done it", res.Rotation)
	}
	all, err := replaytest.CheckAll(context.Background(), p.Client, p.id())
	if err != nil || len(all) < 2 {
		t.Errorf("%d runs, %v", len(all), err)
	}
}

// What an ordinary rotation costs: activities are calls and round trips, events are Temporal's database and its bill.
const (
	mostActivities = 8
	mostEvents     = 55
)

func TestAScheduledRotationCostsFewActivitiesAndEvents(t *testing.T) {
	t.Parallel()
	w := start(t, fixture{
		name: "ci", add: func(s *scenario.Scenario, name string, _ ...string) (string, error) {
			return s.Google(name, scenario.Alias)
		},
		scenario: scenario.Options{Policy: []string{"period: 1ms", "grace: 0s", "soak: 0s", "quiet: 0s"}},
	})
	run := w.start(rotation.Scheduled)
	if res := w.end(run); res.Phase != rotation.Completed || res.NotDue || len(res.Revoked) != 1 {
		t.Fatalf("it ended as %+v", res)
	}
	h, err := replaytest.Check(context.Background(), w.Client, run.GetID(), run.GetRunID())
	if err != nil {
		t.Fatal(err)
	}
	activities := 0
	for _, e := range h.GetEvents() {
		if e.GetEventType() == enumspb.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED {
			activities++
		}
	}
	t.Logf("%d activities, %d events", activities, len(h.GetEvents()))
	if activities > mostActivities || len(h.GetEvents()) > mostEvents {
		t.Errorf("%d activities and %d events; %d and %d are allowed", activities, len(h.GetEvents()), mostActivities, mostEvents)
	}
}
