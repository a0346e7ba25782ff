package replay

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/rekeyhq/rekey/tests/replay/corpus"
	"github.com/rekeyhq/rekey/workflows/replaytest"
)

// altered is a good history that was made one of other code.
type altered struct {
	// from is the file whose last run is altered.
	from string
	// alter returns false if the history has nothing of the kind.
	alter func(*historypb.History) bool
	// says is what the replay says.
	says string
}

// first applies a change to the first event for which it reports true.
func first(change func(*historypb.HistoryEvent) bool) func(*historypb.History) bool {
	return func(h *historypb.History) bool { return slices.ContainsFunc(h.GetEvents(), change) }
}

// cut ends a history behind the commands of the n-th workflow task, where a rotation is under way. It returns the event of that
// task; 0 if there is none.
func cut(h *historypb.History, n int) (task int64) {
	for i, e := range h.GetEvents() {
		if e.GetEventType() != enumspb.EVENT_TYPE_WORKFLOW_TASK_COMPLETED {
			continue
		}
		if n--; n == 0 {
			end := i + 1
			for end < len(h.GetEvents()) && commanded(h.GetEvents()[end], e.GetEventId()) {
				end++
			}
			h.Events = h.GetEvents()[:end]
			return e.GetEventId()
		}
	}
	return 0
}

// commanded reports whether an event is of a command of a workflow task.
func commanded(e *historypb.HistoryEvent, task int64) (is bool) {
	if e.GetWorkflowExecutionUpdateAcceptedEventAttributes() != nil || e.GetWorkflowExecutionUpdateCompletedEventAttributes() != nil {
		return true
	}
	numbers(e.ProtoReflect(), func(name protoreflect.Name, n int64) int64 {
		is = is || name == "workflow_task_completed_event_id" && n == task
		return n
	})
	return is
}

// numbers changes the numbers of events in an event, the ids of activities and timers among them, which are such numbers.
func numbers(m protoreflect.Message, change func(protoreflect.Name, int64) int64) {
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		name := f.Name()
		switch {
		case f.Kind() == protoreflect.MessageKind && !f.IsList() && !f.IsMap():
			numbers(v.Message(), change)
		case f.Kind() == protoreflect.Int64Kind && strings.HasSuffix(string(name), "event_id"):
			m.Set(f, protoreflect.ValueOfInt64(change(name, v.Int())))
		case name == "activity_id" || name == "timer_id":
			if n, err := strconv.ParseInt(v.String(), 10, 64); err == nil {
				m.Set(f, protoreflect.ValueOfString(strconv.FormatInt(change(name, n), 10)))
			}
		}
		return true
	})
}

// without takes events out of a history, as if they had never been.
func without(h *historypb.History, out func(*historypb.HistoryEvent) bool) {
	var left []*historypb.HistoryEvent
	place := map[int64]int64{}
	for _, e := range h.GetEvents() {
		if !out(e) {
			left = append(left, e)
		}
		place[e.GetEventId()] = int64(len(left))
	}
	h.Events = left
	for _, e := range left {
		numbers(e.ProtoReflect(), func(_ protoreflect.Name, n int64) int64 { return place[n] })
	}
}

// more adds an event of a command behind a history that is cut.
func more(h *historypb.History, kind enumspb.EventType, e *historypb.HistoryEvent) bool {
	task := cut(h, 3)
	last := h.GetEvents()[len(h.GetEvents())-1]
	e.EventId, e.EventTime, e.EventType = last.GetEventId()+1, last.GetEventTime(), kind
	h.Events = append(h.GetEvents(), e)
	numbers(e.ProtoReflect(), func(name protoreflect.Name, n int64) int64 {
		if name == "workflow_task_completed_event_id" {
			return task
		}
		return n
	})
	return task > 0
}

const plain = "go-on.plain.automatic+two-stores"

// mustBeRefused are alterations, each of which a replay must see.
var mustBeRefused = map[string]altered{
	"an activity of another name": {plain, first(func(e *historypb.HistoryEvent) bool {
		a := e.GetActivityTaskScheduledEventAttributes()
		if a != nil {
			a.ActivityType.Name = "SomethingElse"
		}
		return a != nil
	}), "nondeterministic workflow: history event is ActivityTaskScheduled: (ActivityId:5, ActivityType:(Name:SomethingElse)"},
	"a timer is missing": {plain, func(h *historypb.History) bool {
		i := slices.IndexFunc(h.GetEvents(), func(e *historypb.HistoryEvent) bool { return e.GetTimerStartedEventAttributes() != nil })
		if i < 0 {
			return false
		}
		id := h.GetEvents()[i].GetTimerStartedEventAttributes().GetTimerId()
		without(h, func(e *historypb.HistoryEvent) bool {
			return e.GetTimerStartedEventAttributes().GetTimerId() == id || e.GetTimerFiredEventAttributes().GetTimerId() == id || e.GetTimerCanceledEventAttributes().GetTimerId() == id
		})
		return true
	}, "lookup failed for scheduledEventID"},
	"a step is missing": {plain, func(h *historypb.History) bool {
		step := int64(0)
		for _, e := range h.GetEvents() {
			if e.GetActivityTaskScheduledEventAttributes().GetActivityType().GetName() == "Verify" {
				step = e.GetEventId()
			}
		}
		without(h, func(e *historypb.HistoryEvent) bool {
			return e.GetEventId() == step || e.GetActivityTaskStartedEventAttributes().GetScheduledEventId() == step || e.GetActivityTaskCompletedEventAttributes().GetScheduledEventId() == step
		})
		return step > 0
	}, "lookup failed for scheduledEventID"},
	"two steps in another order": {plain, func(h *historypb.History) bool {
		var steps []*historypb.ActivityTaskScheduledEventAttributes
		for _, e := range h.GetEvents() {
			if a := e.GetActivityTaskScheduledEventAttributes(); a != nil {
				steps = append(steps, a)
			}
		}
		steps[0].ActivityType, steps[1].ActivityType = steps[1].GetActivityType(), steps[0].GetActivityType()
		return true
	}, "nondeterministic workflow: history event is ActivityTaskScheduled: (ActivityId:5, ActivityType:(Name:Create)"},
	"events out of order": {plain, func(h *historypb.History) bool {
		e := h.GetEvents()
		e[4], e[6] = e[6], e[4]
		return true
	}, "missing history events, expectedNextEventID=5 but receivedNextEventID=7"},
	"a timer more": {plain, func(h *historypb.History) bool {
		return more(h, enumspb.EVENT_TYPE_TIMER_STARTED, &historypb.HistoryEvent{Attributes: &historypb.HistoryEvent_TimerStartedEventAttributes{
			TimerStartedEventAttributes: &historypb.TimerStartedEventAttributes{TimerId: "99", WorkflowTaskCompletedEventId: -1},
		}})
	}, "a matching Timer command was expected in history event position 99. However, the replayed code did not produce that"},
	"a version that the code of today does not ask for": {plain, func(h *historypb.History) bool {
		return more(h, enumspb.EVENT_TYPE_MARKER_RECORDED, &historypb.HistoryEvent{Attributes: &historypb.HistoryEvent_MarkerRecordedEventAttributes{
			MarkerRecordedEventAttributes: &historypb.MarkerRecordedEventAttributes{
				MarkerName: "Version", WorkflowTaskCompletedEventId: -1,
				Details: map[string]*commonpb.Payloads{"change-id": text(`"another-order"`), "version": text("1")},
			},
		}})
	}, `is the version of the change "another-order", which the code of today does not ask for`},
	"a side effect that the code of today does not have": {plain, func(h *historypb.History) bool {
		return more(h, enumspb.EVENT_TYPE_MARKER_RECORDED, &historypb.HistoryEvent{Attributes: &historypb.HistoryEvent_MarkerRecordedEventAttributes{
			MarkerRecordedEventAttributes: &historypb.MarkerRecordedEventAttributes{
				MarkerName: "SideEffect", WorkflowTaskCompletedEventId: -1,
				Details: map[string]*commonpb.Payloads{"side-effect-id": text("1"), "data": text("1")},
			},
		}})
	}, "nondeterministic workflow: missing replay command for MarkerRecorded"},
	"a command less": {plain, func(h *historypb.History) bool {
		task := cut(h, 3)
		last := h.GetEvents()[len(h.GetEvents())-1]
		h.Events[len(h.GetEvents())-1] = &historypb.HistoryEvent{
			EventId: last.GetEventId(), EventTime: last.GetEventTime(), EventType: enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED,
			Attributes: &historypb.HistoryEvent_WorkflowExecutionSignaledEventAttributes{WorkflowExecutionSignaledEventAttributes: &historypb.WorkflowExecutionSignaledEventAttributes{SignalName: "add-note"}},
		}
		return task > 0
	}, "nondeterministic workflow: extra replay command for ScheduleActivityTask"},
	"a workflow of a type that nobody knows": {plain, first(func(e *historypb.HistoryEvent) bool {
		e.GetWorkflowExecutionStartedEventAttributes().WorkflowType.Name = "RotateKeys"
		return true
	}), "unable to find workflow type: RotateKeys"},
	"a rotation that failed": {plain, func(h *historypb.History) bool {
		last := h.GetEvents()[len(h.GetEvents())-1]
		done := last.GetWorkflowExecutionCompletedEventAttributes()
		last.EventType = enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED
		last.Attributes = &historypb.HistoryEvent_WorkflowExecutionFailedEventAttributes{WorkflowExecutionFailedEventAttributes: &historypb.WorkflowExecutionFailedEventAttributes{
			WorkflowTaskCompletedEventId: done.GetWorkflowTaskCompletedEventId(),
		}}
		return done != nil
	}, "it failed; with the code of today it does not"},
	"a rotation that ended elsewhere": {plain, func(h *historypb.History) bool {
		result := h.GetEvents()[len(h.GetEvents())-1].GetWorkflowExecutionCompletedEventAttributes().GetResult().GetPayloads()
		before := string(result[0].GetData())
		result[0].Data = []byte(strings.Replace(before, `"phase":"completed"`, `"phase":"rolled-back"`, 1))
		return before != string(result[0].GetData())
	}, "it ended in rolled-back (manual)"},
	"a rotation that went on elsewhere": {"both-keys.grace.continue-as-new.automatic+two-stores", func(h *historypb.History) bool {
		input := h.GetEvents()[len(h.GetEvents())-1].GetWorkflowExecutionContinuedAsNewEventAttributes().GetInput().GetPayloads()
		before := string(input[0].GetData())
		input[0].Data = []byte(strings.Replace(before, `"step":"grace"`, `"step":"recheck"`, 1))
		return before != string(input[0].GetData())
	}, "it went on in both-keys/recheck; with the code of today it goes on in both-keys/grace"},
	"a run that was not told to go on in a new one": {"both-keys.grace.continue-as-new.automatic+two-stores", func(h *historypb.History) bool {
		found := false
		for _, e := range h.GetEvents() {
			if a := e.GetWorkflowTaskStartedEventAttributes(); a.GetSuggestContinueAsNew() {
				a.SuggestContinueAsNew, found = false, true
			}
		}
		return found
	}, "nondeterministic workflow: extra replay command"},
	"an answer that is none": {plain, first(func(e *historypb.HistoryEvent) bool {
		a := e.GetActivityTaskCompletedEventAttributes()
		if a != nil {
			a.Result = text(`"no object"`)
		}
		return a != nil
	}), "lookup failed for scheduledEventID"},
	"signatures for another namespace": {"go-on.plain.automatic+four-eyes", first(func(e *historypb.HistoryEvent) bool {
		e.GetWorkflowExecutionStartedEventAttributes().ParentWorkflowNamespace = "another"
		return true
	}), "[TMPRL1100]"},
	"a message of another name": {"both-keys.grace.roll-back.automatic+two-stores", first(func(e *historypb.HistoryEvent) bool {
		a := e.GetWorkflowExecutionSignaledEventAttributes()
		if a != nil {
			a.SignalName = "add-note"
		}
		return a != nil
	}), "[TMPRL1100]"},
}

func text(json string) *commonpb.Payloads {
	return &commonpb.Payloads{Payloads: []*commonpb.Payload{{Metadata: map[string][]byte{"encoding": []byte("json/plain")}, Data: []byte(json)}}}
}

func TestAHistoryOfOtherCodeIsRefused(t *testing.T) {
	files := map[string]*replayed{}
	for _, r := range newest(t) {
		files[strings.TrimSuffix(r.Name, replaytest.Ext)] = r
	}
	for name, a := range mustBeRefused {
		t.Run(name, func(t *testing.T) {
			good := files[a.from]
			if good == nil || good.err != nil {
				t.Fatalf("there is no good history %s", a.from)
			}
			h := proto.CloneOf(good.Runs[0])
			if !a.alter(h) {
				t.Fatalf("there is nothing to alter in %s", a.from)
			}
			_, err := corpus.Follow(h)
			if err == nil || !strings.Contains(err.Error(), a.says) {
				t.Errorf("the replay says %v, want %q", err, a.says)
			}
		})
	}
}

// What is altered above is cut off first in places: a history that is only cut is good.
func TestARotationThatIsUnderWayReplays(t *testing.T) {
	for _, r := range newest(t) {
		if r.Name != plain+replaytest.Ext {
			continue
		}
		for n := 1; ; n++ {
			h := proto.CloneOf(r.Runs[0])
			if cut(h, n) == 0 {
				return
			}
			if err := replaytest.Replay(h); err != nil {
				t.Errorf("cut behind %d workflow tasks: %v", n, err)
			}
		}
	}
	t.Errorf("there is no %s", plain)
}
