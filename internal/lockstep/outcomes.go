package lockstep

import (
	"errors"
	"slices"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/sdk/temporal"
)

// Signal sends the workflow a signal.
func (r *Run) Signal(name string, args ...any) {
	r.f.t.Helper()
	at, input := r.now, r.f.encode(args...)
	r.happen(queued{do: func() {
		r.write(enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED, at, &historypb.HistoryEvent{
			Attributes: &historypb.HistoryEvent_WorkflowExecutionSignaledEventAttributes{WorkflowExecutionSignaledEventAttributes: &historypb.WorkflowExecutionSignaledEventAttributes{
				SignalName: name, Input: input, Identity: "test",
			}}})
	}})
}

// Cancel asks the workflow to cancel.
func (r *Run) Cancel() {
	r.f.t.Helper()
	at := r.now
	r.happen(queued{do: func() {
		r.write(enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED, at, &historypb.HistoryEvent{
			Attributes: &historypb.HistoryEvent_WorkflowExecutionCancelRequestedEventAttributes{WorkflowExecutionCancelRequestedEventAttributes: &historypb.WorkflowExecutionCancelRequestedEventAttributes{
				Identity: "test",
			}}})
	}})
}

// open returns an open activity, and fails the test if it is none.
func (r *Run) open(id string) *Activity {
	r.f.t.Helper()
	a := find(r.pending.Activities, func(a Activity) bool { return a.ID == id })
	if a == nil || a.closing {
		r.f.t.Fatalf("lockstep: there is no open activity %s, but %s", id, r.Pending())
	}
	return a
}

// NotPickedUp says that no worker has begun the activity. If the workflow cancels it, it is cancelled at once.
func (r *Run) NotPickedUp(id string) { r.f.t.Helper(); r.open(id).waiting = true }

// PickedUp takes NotPickedUp back.
func (r *Run) PickedUp(id string) { r.f.t.Helper(); r.open(id).waiting = false }

// closeActivity lets an activity begin, if it has not, and end.
func (r *Run) closeActivity(id string, begun bool, end func(a Activity, started int64, at time.Time)) {
	r.f.t.Helper()
	a := r.open(id)
	at := r.now
	if r.running {
		a.closing = true
	}
	r.happen(queued{about: "activity " + id, last: true, do: func() {
		a := *find(r.pending.Activities, func(a Activity) bool { return a.ID == id })
		started := a.startedEvent
		if begun && started == 0 {
			started = r.write(enumspb.EVENT_TYPE_ACTIVITY_TASK_STARTED, at, &historypb.HistoryEvent{
				Attributes: &historypb.HistoryEvent_ActivityTaskStartedEventAttributes{ActivityTaskStartedEventAttributes: &historypb.ActivityTaskStartedEventAttributes{
					ScheduledEventId: a.EventID, Identity: "test", RequestId: "request", Attempt: 1,
				}}}).GetEventId()
		}
		end(a, started, at)
	}})
}

// CompleteActivity returns the activity's result; nil is none.
func (r *Run) CompleteActivity(id string, result any) {
	r.f.t.Helper()
	var payloads *commonpb.Payloads
	if result != nil {
		payloads = r.f.encode(result)
	}
	r.closeActivity(id, true, func(a Activity, started int64, at time.Time) {
		r.write(enumspb.EVENT_TYPE_ACTIVITY_TASK_COMPLETED, at, &historypb.HistoryEvent{
			Attributes: &historypb.HistoryEvent_ActivityTaskCompletedEventAttributes{ActivityTaskCompletedEventAttributes: &historypb.ActivityTaskCompletedEventAttributes{
				ScheduledEventId: a.EventID, StartedEventId: started, Result: payloads, Identity: "test",
			}}})
	})
}

// FailActivity ends the activity with an error, without another attempt: a *temporal.TimeoutError as timed out, a
// *temporal.CanceledError as cancelled, any other as failed.
func (r *Run) FailActivity(id string, err error) {
	r.f.t.Helper()
	var timeout *temporal.TimeoutError
	var application *temporal.ApplicationError
	state := enumspb.RETRY_STATE_MAXIMUM_ATTEMPTS_REACHED
	if a := r.open(id); a.Options.GetRetryPolicy() == nil {
		state = enumspb.RETRY_STATE_RETRY_POLICY_NOT_SET
	}
	failure := toFailure(err)
	switch {
	case temporal.IsCanceledError(err):
		r.CancelActivity(id)
	case errors.As(err, &timeout):
		if timeout.TimeoutType() == enumspb.TIMEOUT_TYPE_SCHEDULE_TO_START || timeout.TimeoutType() == enumspb.TIMEOUT_TYPE_SCHEDULE_TO_CLOSE {
			state = enumspb.RETRY_STATE_TIMEOUT
		}
		r.closeActivity(id, timeout.TimeoutType() != enumspb.TIMEOUT_TYPE_SCHEDULE_TO_START, func(a Activity, started int64, at time.Time) {
			r.write(enumspb.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT, at, &historypb.HistoryEvent{
				Attributes: &historypb.HistoryEvent_ActivityTaskTimedOutEventAttributes{ActivityTaskTimedOutEventAttributes: &historypb.ActivityTaskTimedOutEventAttributes{
					ScheduledEventId: a.EventID, StartedEventId: started, Failure: failure, RetryState: state,
				}}})
		})
	default:
		if errors.As(err, &application) && application.NonRetryable() {
			state = enumspb.RETRY_STATE_NON_RETRYABLE_FAILURE
		}
		r.closeActivity(id, true, func(a Activity, started int64, at time.Time) {
			r.write(enumspb.EVENT_TYPE_ACTIVITY_TASK_FAILED, at, &historypb.HistoryEvent{
				Attributes: &historypb.HistoryEvent_ActivityTaskFailedEventAttributes{ActivityTaskFailedEventAttributes: &historypb.ActivityTaskFailedEventAttributes{
					ScheduledEventId: a.EventID, StartedEventId: started, Failure: failure, RetryState: state, Identity: "test",
				}}})
		})
	}
}

// CancelActivity ends the activity as cancelled. The workflow must have asked for that.
func (r *Run) CancelActivity(id string, details ...any) {
	r.f.t.Helper()
	if !r.open(id).CancelRequested {
		r.f.t.Fatalf("lockstep: nobody asked for activity %s to be cancelled", id)
	}
	payloads := r.f.encode(details...)
	r.closeActivity(id, true, func(a Activity, started int64, at time.Time) { r.canceled(a, started, at, payloads) })
}

func (r *Run) canceled(a Activity, started int64, at time.Time, details *commonpb.Payloads) {
	r.write(enumspb.EVENT_TYPE_ACTIVITY_TASK_CANCELED, at, &historypb.HistoryEvent{
		Attributes: &historypb.HistoryEvent_ActivityTaskCanceledEventAttributes{ActivityTaskCanceledEventAttributes: &historypb.ActivityTaskCanceledEventAttributes{
			ScheduledEventId: a.EventID, StartedEventId: started, LatestCancelRequestedEventId: a.cancelEvent, Details: details, Identity: "test",
		}}})
}

// FireTimer fires a timer. If it is not due yet, the clock moves to the moment when it is.
func (r *Run) FireTimer(id string) {
	r.f.t.Helper()
	t := find(r.pending.Timers, func(t Timer) bool { return t.ID == id })
	if t == nil || t.closing {
		r.f.t.Fatalf("lockstep: there is no timer %s, but %s", id, r.Pending())
	}
	if t.FireAt.After(r.now) {
		r.now = t.FireAt
	}
	at, event := r.now, t.EventID
	if r.running {
		t.closing = true
	}
	r.happen(queued{about: "timer " + id, do: func() {
		r.write(enumspb.EVENT_TYPE_TIMER_FIRED, at, &historypb.HistoryEvent{
			Attributes: &historypb.HistoryEvent_TimerFiredEventAttributes{TimerFiredEventAttributes: &historypb.TimerFiredEventAttributes{
				TimerId: id, StartedEventId: event,
			}}})
	}})
}

// NextTimer returns the timer that fires next, of several the one that was started first.
func (r *Run) NextTimer() (next Timer, ok bool) {
	for _, t := range r.pending.Timers {
		if !t.closing && (!ok || t.FireAt.Before(next.FireAt)) {
			next, ok = t, true
		}
	}
	return next, ok
}

// Advance moves the clock and fires the timers that are due by then, each at its moment. They are delivered together,
// as if no worker had been there all that time.
func (r *Run) Advance(to time.Time) {
	r.f.t.Helper()
	if to.Before(r.now) {
		r.f.t.Fatalf("lockstep: the clock is at %s already, it does not go back to %s", r.now, to)
	}
	for {
		t, ok := r.NextTimer()
		if !ok || t.FireAt.After(to) {
			break
		}
		r.FireTimer(t.ID)
	}
	r.now = to
}

// AdvanceBy is Advance by a duration.
func (r *Run) AdvanceBy(d time.Duration) { r.f.t.Helper(); r.Advance(r.now.Add(d)) }

// Wait moves the clock without firing timers, as when the server is late.
func (r *Run) Wait(d time.Duration) {
	r.f.t.Helper()
	if d < 0 {
		r.f.t.Fatalf("lockstep: the clock does not go back by %s", d)
	}
	r.now = r.now.Add(d)
}

func (r *Run) child(id string) *Child {
	r.f.t.Helper()
	// An ID can be used again: the last one counts.
	for i := range slices.Backward(r.pending.Children) {
		if c := &r.pending.Children[i]; c.ID == id && !c.closing {
			return c
		}
	}
	r.f.t.Fatalf("lockstep: there is no open child %s, but %s", id, r.Pending())
	return nil
}

// StartChild lets the start of a child workflow succeed.
func (r *Run) StartChild(id string) {
	r.f.t.Helper()
	c, at, runID := *r.child(id), r.now, r.f.newID()
	if c.Started {
		r.f.t.Fatalf("lockstep: the child %s has started already", id)
	}
	r.happen(queued{do: func() {
		r.write(enumspb.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED, at, &historypb.HistoryEvent{
			Attributes: &historypb.HistoryEvent_ChildWorkflowExecutionStartedEventAttributes{ChildWorkflowExecutionStartedEventAttributes: &historypb.ChildWorkflowExecutionStartedEventAttributes{
				Namespace: c.Options.GetNamespace(), InitiatedEventId: c.EventID, WorkflowType: c.Options.GetWorkflowType(),
				WorkflowExecution: &commonpb.WorkflowExecution{WorkflowId: id, RunId: runID}, Header: c.Options.GetHeader(),
			}}})
	}})
}

// RefuseChild lets the start of a child workflow fail, because one with that ID runs already.
func (r *Run) RefuseChild(id string) {
	r.f.t.Helper()
	c, at := r.child(id), r.now
	if c.Started {
		r.f.t.Fatalf("lockstep: the child %s has started already", id)
	}
	c.closing = r.running
	options, event := c.Options, c.EventID
	r.happen(queued{do: func() {
		r.write(enumspb.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_FAILED, at, &historypb.HistoryEvent{
			Attributes: &historypb.HistoryEvent_StartChildWorkflowExecutionFailedEventAttributes{StartChildWorkflowExecutionFailedEventAttributes: &historypb.StartChildWorkflowExecutionFailedEventAttributes{
				Namespace: options.GetNamespace(), WorkflowId: id, WorkflowType: options.GetWorkflowType(), InitiatedEventId: event,
				WorkflowTaskCompletedEventId: options.GetWorkflowTaskCompletedEventId(),
				Cause:                        enumspb.START_CHILD_WORKFLOW_EXECUTION_FAILED_CAUSE_WORKFLOW_ALREADY_EXISTS,
			}}})
	}})
}

// CompleteChild ends a child workflow that has started with a result.
func (r *Run) CompleteChild(id string, result any) {
	r.f.t.Helper()
	var payloads *commonpb.Payloads
	if result != nil {
		payloads = r.f.encode(result)
	}
	r.closeChild(id, func(c Child, execution *commonpb.WorkflowExecution, at time.Time) {
		r.write(enumspb.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_COMPLETED, at, &historypb.HistoryEvent{
			Attributes: &historypb.HistoryEvent_ChildWorkflowExecutionCompletedEventAttributes{ChildWorkflowExecutionCompletedEventAttributes: &historypb.ChildWorkflowExecutionCompletedEventAttributes{
				Namespace: c.Options.GetNamespace(), InitiatedEventId: c.EventID, StartedEventId: c.startedEvent, WorkflowExecution: execution,
				WorkflowType: c.Options.GetWorkflowType(), Result: payloads,
			}}})
	})
}

// FailChild ends a child workflow that has started with an error.
func (r *Run) FailChild(id string, err error) {
	r.f.t.Helper()
	failure := toFailure(err)
	r.closeChild(id, func(c Child, execution *commonpb.WorkflowExecution, at time.Time) {
		r.write(enumspb.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_FAILED, at, &historypb.HistoryEvent{
			Attributes: &historypb.HistoryEvent_ChildWorkflowExecutionFailedEventAttributes{ChildWorkflowExecutionFailedEventAttributes: &historypb.ChildWorkflowExecutionFailedEventAttributes{
				Namespace: c.Options.GetNamespace(), InitiatedEventId: c.EventID, StartedEventId: c.startedEvent, WorkflowExecution: execution,
				WorkflowType: c.Options.GetWorkflowType(), Failure: failure, RetryState: enumspb.RETRY_STATE_RETRY_POLICY_NOT_SET,
			}}})
	})
}

func (r *Run) closeChild(id string, end func(Child, *commonpb.WorkflowExecution, time.Time)) {
	r.f.t.Helper()
	c, at := r.child(id), r.now
	if !c.Started {
		r.f.t.Fatalf("lockstep: the child %s has not started", id)
	}
	c.closing = r.running
	child := *c
	r.happen(queued{last: true, do: func() {
		end(child, &commonpb.WorkflowExecution{WorkflowId: id, RunId: child.runID}, at)
	}})
}

// Deliver lets a signal or a cancel that the workflow sent arrive; event is External.EventID.
func (r *Run) Deliver(event int64) { r.f.t.Helper(); r.external(event, true) }

// Lose lets it fail, because there is no such workflow.
func (r *Run) Lose(event int64) { r.f.t.Helper(); r.external(event, false) }

func (r *Run) external(event int64, arrives bool) {
	r.f.t.Helper()
	found := find(r.pending.Externals, func(e External) bool { return e.EventID == event })
	if found == nil || found.closing {
		r.f.t.Fatalf("lockstep: there is no message of event %d under way, but %s", event, r.Pending())
	}
	found.closing = r.running
	e, at := *found, r.now
	execution := &commonpb.WorkflowExecution{WorkflowId: e.WorkflowID, RunId: e.RunID}
	r.happen(queued{do: func() {
		switch {
		case e.Signal != "" && arrives:
			r.write(enumspb.EVENT_TYPE_EXTERNAL_WORKFLOW_EXECUTION_SIGNALED, at, &historypb.HistoryEvent{
				Attributes: &historypb.HistoryEvent_ExternalWorkflowExecutionSignaledEventAttributes{ExternalWorkflowExecutionSignaledEventAttributes: &historypb.ExternalWorkflowExecutionSignaledEventAttributes{
					InitiatedEventId: event, Namespace: namespace, WorkflowExecution: execution,
				}}})
		case e.Signal != "":
			r.write(enumspb.EVENT_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_FAILED, at, &historypb.HistoryEvent{
				Attributes: &historypb.HistoryEvent_SignalExternalWorkflowExecutionFailedEventAttributes{SignalExternalWorkflowExecutionFailedEventAttributes: &historypb.SignalExternalWorkflowExecutionFailedEventAttributes{
					InitiatedEventId: event, Namespace: namespace, WorkflowExecution: execution,
					Cause: enumspb.SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_FAILED_CAUSE_EXTERNAL_WORKFLOW_EXECUTION_NOT_FOUND,
				}}})
		case arrives:
			r.write(enumspb.EVENT_TYPE_EXTERNAL_WORKFLOW_EXECUTION_CANCEL_REQUESTED, at, &historypb.HistoryEvent{
				Attributes: &historypb.HistoryEvent_ExternalWorkflowExecutionCancelRequestedEventAttributes{ExternalWorkflowExecutionCancelRequestedEventAttributes: &historypb.ExternalWorkflowExecutionCancelRequestedEventAttributes{
					InitiatedEventId: event, Namespace: namespace, WorkflowExecution: execution,
				}}})
		default:
			r.write(enumspb.EVENT_TYPE_REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_FAILED, at, &historypb.HistoryEvent{
				Attributes: &historypb.HistoryEvent_RequestCancelExternalWorkflowExecutionFailedEventAttributes{RequestCancelExternalWorkflowExecutionFailedEventAttributes: &historypb.RequestCancelExternalWorkflowExecutionFailedEventAttributes{
					InitiatedEventId: event, Namespace: namespace, WorkflowExecution: execution,
					Cause: enumspb.CANCEL_EXTERNAL_WORKFLOW_EXECUTION_FAILED_CAUSE_EXTERNAL_WORKFLOW_EXECUTION_NOT_FOUND,
				}}})
		}
	}})
}
