package replay

import (
	"fmt"
	"testing"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/sdk/converter"

	"github.com/rekeyhq/rekey/activities"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/workflows"
)

// story is what a history of the corpus shows.
type story struct {
	workflow string
	// in is the input of a rotation, result what it ended with.
	in     workflows.Input
	result rotation.Result
	// activities counts what was scheduled, by name; answered are those that were answered at the second try or later.
	activities map[string]int
	retried    map[string]bool
	// endless are activities that Temporal tries for as long as it takes.
	endless map[string]bool
	// messages counts the updates and signals that came, by name.
	messages map[string]int
	// leaves: the run is continued by another one.
	leaves bool
}

func storyOf(t *testing.T, h *historypb.History) story {
	t.Helper()
	s := story{activities: map[string]int{}, retried: map[string]bool{}, endless: map[string]bool{}, messages: map[string]int{}}
	names := map[int64]string{}
	attempts := map[int64]int32{}
	for _, e := range h.GetEvents() {
		switch e.GetEventType() {
		case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED:
			a := e.GetWorkflowExecutionStartedEventAttributes()
			if s.workflow = a.GetWorkflowType().GetName(); s.workflow == "RotateKey" {
				decode(t, a.GetInput(), &s.in)
			}
		case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED:
			if s.workflow == "RotateKey" {
				decode(t, e.GetWorkflowExecutionCompletedEventAttributes().GetResult(), &s.result)
			}
		case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW:
			s.leaves = true
		case enumspb.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
			a := e.GetActivityTaskScheduledEventAttributes()
			name := a.GetActivityType().GetName()
			names[e.GetEventId()] = name
			s.activities[name]++
			if a.GetRetryPolicy().GetMaximumAttempts() == 0 {
				s.endless[name] = true
			}
		case enumspb.EVENT_TYPE_ACTIVITY_TASK_STARTED:
			a := e.GetActivityTaskStartedEventAttributes()
			attempts[a.GetScheduledEventId()] = a.GetAttempt()
		case enumspb.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
			id := e.GetActivityTaskCompletedEventAttributes().GetScheduledEventId()
			if attempts[id] > 1 {
				s.retried[names[id]] = true
			}
		case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED:
			s.messages[e.GetWorkflowExecutionSignaledEventAttributes().GetSignalName()]++
		case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED:
			s.messages[e.GetWorkflowExecutionUpdateAcceptedEventAttributes().GetAcceptedRequest().GetInput().GetName()]++
		}
	}
	return s
}

func decode(t *testing.T, payloads *commonpb.Payloads, into any) {
	t.Helper()
	if err := converter.GetDefaultDataConverter().FromPayloads(payloads, into); err != nil {
		t.Fatal(err)
	}
}

// kinds are what the newest version of the corpus must hold.
var kinds = map[string]func(story) bool{
	"a rotation that needs no person": func(s story) bool {
		return s.activities["Create"] == 1 && s.activities["Adopt"] == 0 && s.ended(rotation.Completed, rotation.Manual)
	},
	"a rotation whose first attempt to make a key got no answer": func(s story) bool {
		return s.activities["Create"] > 1 && s.ended(rotation.Completed, rotation.Manual)
	},
	"a rotation that a schedule started": func(s story) bool { return s.ended(rotation.Completed, rotation.Scheduled) },
	"a rotation by hand": func(s story) bool {
		return s.activities["Adopt"] > 0 && s.messages["key-revoked"] > 0 && s.ended(rotation.Completed, rotation.Manual)
	},
	"a rotation that rolls back before the promote": func(s story) bool {
		return s.activities["Discard"] > 0 && s.ended(rotation.RolledBack, rotation.Manual)
	},
	"a rotation in reverse": func(s story) bool {
		return s.activities["Promote"] == 2 && s.messages["roll-back"] > 0 && s.ended(rotation.RolledBack, rotation.Manual)
	},
	"an emergency that joins a rotation": func(s story) bool {
		return s.in.Carry == nil && s.in.Reason == rotation.Manual && s.messages["emergency"] > 0 && s.ended(rotation.Completed, rotation.Emergency)
	},
	"a rotation that leaves the rest to an emergency": func(s story) bool { return s.messages["emergency"] > 0 && s.leaves },
	"an emergency that follows a rotation":            func(s story) bool { return s.in.Carry != nil && s.ended(rotation.Completed, rotation.Emergency) },
	"a blocked step that succeeds later": func(s story) bool {
		return s.workflow == "RotateKey" && s.endless["Revoke"] && s.retried["Revoke"] && s.result.Phase == rotation.Completed
	},
	"a rotation that goes on in a new run": func(s story) bool { return s.in.Resume != nil && s.ended(rotation.Completed, rotation.Manual) },
	"a rotation under four eyes": func(s story) bool {
		signed := 0
		for _, d := range s.result.Decisions {
			if d.Kind == rotation.Approve && d.Signer != nil {
				signed++
			}
		}
		return s.in.Key.Policy.FourEyes && signed == rotation.Eyes
	},
	"a rotation that tells people": func(s story) bool { return s.workflow == "RotateKey" && s.activities["Notify"] > 1 },
	"a dispatcher":                 func(s story) bool { return s.workflow == "Dispatch" },
	"an emergency over many keys":  func(s story) bool { return s.workflow == workflows.EmergencyType && s.activities["RaiseAll"] > 0 },
	"an emergency that waits for news": func(s story) bool {
		return s.workflow == workflows.EmergencyType && s.endless[activities.StatusesName] && s.retried[activities.StatusesName]
	},
	"a trigger":             func(s story) bool { return s.workflow == "Trigger" },
	"the telling of an end": func(s story) bool { return s.workflow == workflows.NotifyType },
}

// ended reports whether it is a rotation that ended in a phase, for a reason.
func (s story) ended(p rotation.Phase, why rotation.Reason) bool {
	return s.workflow == "RotateKey" && s.result.Phase == p && s.result.Reason == why
}

func TestTheCorpusHoldsEveryKindOfHistory(t *testing.T) {
	stories := map[string]story{}
	scenes := map[string]bool{}
	for _, r := range newest(t) {
		for i, run := range r.Runs {
			name := fmt.Sprintf("%s, run %d", r.Name, i+1)
			stories[name], scenes[name] = storyOf(t, run), r.Turn == ""
		}
	}
	for kind, shows := range kinds {
		found := false
		for _, s := range stories {
			found = found || shows(s)
		}
		if !found {
			t.Errorf("no history shows %s", kind)
		}
	}
	for name, s := range stories {
		found := !scenes[name]
		for _, shows := range kinds {
			found = found || shows(s)
		}
		if !found {
			t.Errorf("nobody knows what %s is for: a history of %s, %+v", name, s.workflow, s.result)
		}
	}
}
