package lockstep

import (
	"fmt"
	"slices"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
)

// Pending is what a workflow waits for, each list in the order in which the workflow began it.
type Pending struct {
	Activities []Activity
	Timers     []Timer
	Children   []Child
	Externals  []External
}

// Activity is an activity that was scheduled and has no outcome yet.
type Activity struct {
	ID, Type string
	Input    *commonpb.Payloads
	// Summary is what the workflow says about it.
	Summary string
	// ScheduledAt is when it was scheduled, EventID the event that did it.
	ScheduledAt time.Time
	EventID     int64
	// Options has its timeouts, its retry policy and its task queue.
	Options *historypb.ActivityTaskScheduledEventAttributes
	// CancelRequested: the workflow has asked for it to be cancelled.
	CancelRequested bool

	// waiting: no worker has picked it up. closing: its outcome is on its way.
	waiting, closing bool
	cancelEvent      int64
	startedEvent     int64
}

// Decode decodes the activity's arguments.
func (a Activity) Decode(to ...any) error { return dataConverter.FromPayloads(a.Input, to...) }

// Timer is a timer that runs.
type Timer struct {
	ID, Summary       string
	StartedAt, FireAt time.Time
	EventID           int64
	closing           bool
}

// Child is a child workflow that was asked for and is not over.
type Child struct {
	ID, Type, Summary string
	Input             *commonpb.Payloads
	EventID           int64
	// Started: it runs.
	Started bool
	// Options has all that the workflow said about it.
	Options *historypb.StartChildWorkflowExecutionInitiatedEventAttributes

	runID        string
	startedEvent int64
	closing      bool
}

// Decode decodes the child's arguments.
func (c Child) Decode(to ...any) error { return dataConverter.FromPayloads(c.Input, to...) }

// External is a signal or a cancel that the workflow sent to another workflow and that has not arrived yet.
type External struct {
	// Signal is the signal's name; a cancel has none.
	Signal            string
	WorkflowID, RunID string
	Input             *commonpb.Payloads
	EventID           int64
	closing           bool
}

// Decode decodes the signal's argument.
func (e External) Decode(to ...any) error { return dataConverter.FromPayloads(e.Input, to...) }

// Pending is what the workflow waits for now; what was chosen to happen already does not count.
func (r *Run) Pending() Pending {
	return Pending{
		Activities: slices.DeleteFunc(slices.Clone(r.pending.Activities), func(a Activity) bool { return a.closing }),
		Timers:     slices.DeleteFunc(slices.Clone(r.pending.Timers), func(t Timer) bool { return t.closing }),
		Children:   slices.DeleteFunc(slices.Clone(r.pending.Children), func(c Child) bool { return c.closing }),
		Externals:  slices.DeleteFunc(slices.Clone(r.pending.Externals), func(e External) bool { return e.closing }),
	}
}

// Activity returns the oldest open activity of that type, and fails the test if there is none.
func (r *Run) Activity(activityType string) Activity {
	r.f.t.Helper()
	for _, a := range r.pending.Activities {
		if a.Type == activityType && !a.closing {
			return a
		}
	}
	r.f.t.Fatalf("lockstep: no activity %s is open, but %s", activityType, r.Pending())
	return Activity{}
}

// String lists what is open in one line.
func (p Pending) String() string {
	var all []string
	for _, a := range p.Activities {
		all = append(all, fmt.Sprintf("activity %s(%s)", a.Type, a.ID))
	}
	for _, t := range p.Timers {
		all = append(all, fmt.Sprintf("timer %s at %s (%s)", t.ID, t.FireAt.Format(time.RFC3339), t.Summary))
	}
	for _, c := range p.Children {
		all = append(all, fmt.Sprintf("child %s(%s)", c.Type, c.ID))
	}
	for _, e := range p.Externals {
		all = append(all, fmt.Sprintf("message %s to %s", e.Signal, e.WorkflowID))
	}
	if len(all) == 0 {
		return "nothing"
	}
	return fmt.Sprint(all)
}

// apply brings what is open up to date with an event. A history that is applied from its first event on returns the
// same as the run had there.
func (r *Run) apply(e *historypb.HistoryEvent) {
	p := &r.pending
	switch e.GetEventType() {
	case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED:
		a := e.GetWorkflowExecutionStartedEventAttributes()
		r.memo, r.attributes = map[string]*commonpb.Payload{}, map[string]*commonpb.Payload{}
		merge(r.memo, a.GetMemo().GetFields())
		merge(r.attributes, a.GetSearchAttributes().GetIndexedFields())
	case enumspb.EVENT_TYPE_WORKFLOW_PROPERTIES_MODIFIED:
		merge(r.memo, e.GetWorkflowPropertiesModifiedEventAttributes().GetUpsertedMemo().GetFields())
	case enumspb.EVENT_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES:
		merge(r.attributes, e.GetUpsertWorkflowSearchAttributesEventAttributes().GetSearchAttributes().GetIndexedFields())

	case enumspb.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
		a := e.GetActivityTaskScheduledEventAttributes()
		p.Activities = append(p.Activities, Activity{
			ID: a.GetActivityId(), Type: a.GetActivityType().GetName(), Input: a.GetInput(), Summary: summary(e),
			ScheduledAt: e.GetEventTime().AsTime(), EventID: e.GetEventId(), Options: a,
		})
	case enumspb.EVENT_TYPE_ACTIVITY_TASK_STARTED:
		if a := find(p.Activities, func(a Activity) bool {
			return a.EventID == e.GetActivityTaskStartedEventAttributes().GetScheduledEventId()
		}); a != nil {
			a.startedEvent = e.GetEventId()
		}
	case enumspb.EVENT_TYPE_ACTIVITY_TASK_CANCEL_REQUESTED:
		if a := find(p.Activities, func(a Activity) bool {
			return a.EventID == e.GetActivityTaskCancelRequestedEventAttributes().GetScheduledEventId()
		}); a != nil {
			a.CancelRequested, a.cancelEvent = true, e.GetEventId()
		}
	case enumspb.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
		p.closeActivity(e.GetActivityTaskCompletedEventAttributes().GetScheduledEventId())
	case enumspb.EVENT_TYPE_ACTIVITY_TASK_FAILED:
		p.closeActivity(e.GetActivityTaskFailedEventAttributes().GetScheduledEventId())
	case enumspb.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT:
		p.closeActivity(e.GetActivityTaskTimedOutEventAttributes().GetScheduledEventId())
	case enumspb.EVENT_TYPE_ACTIVITY_TASK_CANCELED:
		p.closeActivity(e.GetActivityTaskCanceledEventAttributes().GetScheduledEventId())

	case enumspb.EVENT_TYPE_TIMER_STARTED:
		a := e.GetTimerStartedEventAttributes()
		at := e.GetEventTime().AsTime()
		p.Timers = append(p.Timers, Timer{
			ID: a.GetTimerId(), Summary: summary(e), StartedAt: at, FireAt: at.Add(a.GetStartToFireTimeout().AsDuration()), EventID: e.GetEventId(),
		})
	case enumspb.EVENT_TYPE_TIMER_FIRED:
		p.Timers = slices.DeleteFunc(p.Timers, func(t Timer) bool { return t.ID == e.GetTimerFiredEventAttributes().GetTimerId() })
	case enumspb.EVENT_TYPE_TIMER_CANCELED:
		p.Timers = slices.DeleteFunc(p.Timers, func(t Timer) bool { return t.ID == e.GetTimerCanceledEventAttributes().GetTimerId() })

	case enumspb.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED:
		a := e.GetStartChildWorkflowExecutionInitiatedEventAttributes()
		p.Children = append(p.Children, Child{
			ID: a.GetWorkflowId(), Type: a.GetWorkflowType().GetName(), Input: a.GetInput(), Summary: summary(e), EventID: e.GetEventId(), Options: a,
		})
	case enumspb.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED:
		a := e.GetChildWorkflowExecutionStartedEventAttributes()
		if c := find(p.Children, func(c Child) bool { return c.EventID == a.GetInitiatedEventId() }); c != nil {
			c.Started, c.startedEvent, c.runID = true, e.GetEventId(), a.GetWorkflowExecution().GetRunId()
		}
	case enumspb.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_FAILED:
		p.closeChild(e.GetStartChildWorkflowExecutionFailedEventAttributes().GetInitiatedEventId())
	case enumspb.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_COMPLETED:
		p.closeChild(e.GetChildWorkflowExecutionCompletedEventAttributes().GetInitiatedEventId())
	case enumspb.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_FAILED:
		p.closeChild(e.GetChildWorkflowExecutionFailedEventAttributes().GetInitiatedEventId())

	case enumspb.EVENT_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED:
		a := e.GetSignalExternalWorkflowExecutionInitiatedEventAttributes()
		p.Externals = append(p.Externals, External{
			Signal: a.GetSignalName(), WorkflowID: a.GetWorkflowExecution().GetWorkflowId(), RunID: a.GetWorkflowExecution().GetRunId(),
			Input: a.GetInput(), EventID: e.GetEventId(),
		})
	case enumspb.EVENT_TYPE_REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED:
		a := e.GetRequestCancelExternalWorkflowExecutionInitiatedEventAttributes()
		p.Externals = append(p.Externals, External{
			WorkflowID: a.GetWorkflowExecution().GetWorkflowId(), RunID: a.GetWorkflowExecution().GetRunId(), EventID: e.GetEventId(),
		})
	case enumspb.EVENT_TYPE_EXTERNAL_WORKFLOW_EXECUTION_SIGNALED:
		p.closeExternal(e.GetExternalWorkflowExecutionSignaledEventAttributes().GetInitiatedEventId())
	case enumspb.EVENT_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_FAILED:
		p.closeExternal(e.GetSignalExternalWorkflowExecutionFailedEventAttributes().GetInitiatedEventId())
	case enumspb.EVENT_TYPE_EXTERNAL_WORKFLOW_EXECUTION_CANCEL_REQUESTED:
		p.closeExternal(e.GetExternalWorkflowExecutionCancelRequestedEventAttributes().GetInitiatedEventId())
	case enumspb.EVENT_TYPE_REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_FAILED:
		p.closeExternal(e.GetRequestCancelExternalWorkflowExecutionFailedEventAttributes().GetInitiatedEventId())

	case enumspb.EVENT_TYPE_WORKFLOW_TASK_COMPLETED:
		r.started = e.GetWorkflowTaskCompletedEventAttributes().GetStartedEventId()
	case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED:
		r.status = enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED
	case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED:
		r.status = enumspb.WORKFLOW_EXECUTION_STATUS_FAILED
	case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED:
		r.status = enumspb.WORKFLOW_EXECUTION_STATUS_TERMINATED
	case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED:
		r.status = enumspb.WORKFLOW_EXECUTION_STATUS_CANCELED
	case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW:
		r.status = enumspb.WORKFLOW_EXECUTION_STATUS_CONTINUED_AS_NEW
	}
}

// merge applies changes as the server does: a value that encodes nothing takes the field away.
func merge(to, from map[string]*commonpb.Payload) {
	for name, p := range from {
		if encoding := string(p.GetMetadata()["encoding"]); encoding == "binary/null" || encoding == "json/plain" && (string(p.GetData()) == "null" || string(p.GetData()) == "[]") {
			delete(to, name)
		} else {
			to[name] = p
		}
	}
}

func find[T any](all []T, is func(T) bool) *T {
	if i := slices.IndexFunc(all, is); i >= 0 {
		return &all[i]
	}
	return nil
}

func (p *Pending) closeActivity(event int64) {
	p.Activities = slices.DeleteFunc(p.Activities, func(a Activity) bool { return a.EventID == event })
}

func (p *Pending) closeChild(event int64) {
	p.Children = slices.DeleteFunc(p.Children, func(c Child) bool { return c.EventID == event })
}

func (p *Pending) closeExternal(event int64) {
	p.Externals = slices.DeleteFunc(p.Externals, func(e External) bool { return e.EventID == event })
}

func summary(e *historypb.HistoryEvent) string {
	var s string
	if p := e.GetUserMetadata().GetSummary(); p != nil {
		_ = dataConverter.FromPayload(p, &s)
	}
	return s
}
