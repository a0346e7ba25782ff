package lockstep

import (
	"slices"

	enumspb "go.temporal.io/api/enums/v1"
	failurepb "go.temporal.io/api/failure/v1"
	historypb "go.temporal.io/api/history/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// WorkflowTasks is the number of workflow tasks in the history that were completed: what Reset can go back to.
func (r *Run) WorkflowTasks() int {
	n := 0
	for _, e := range r.events {
		if e.GetEventType() == enumspb.EVENT_TYPE_WORKFLOW_TASK_COMPLETED {
			n++
		}
	}
	return n
}

// Reset makes a new run of the history up to the completion of the workflow task of that number, the first being 1:
// what the workflow wanted in it is to be decided anew. As on a server, the run that is current is terminated, and
// the signals and updates that came later, in this run and in those that it continued as, come once more, unless
// they are excluded. Activities that were open stay open.
func (r *Run) Reset(workflowTask int, exclude ...enumspb.ResetReapplyExcludeType) *Run {
	f := r.f
	f.t.Helper()
	cut := -1
	for i, e := range r.events {
		if e.GetEventType() == enumspb.EVENT_TYPE_WORKFLOW_TASK_COMPLETED {
			if workflowTask--; workflowTask == 0 {
				cut = i
				break
			}
		}
	}
	if cut < 0 {
		f.t.Fatalf("lockstep: the history has only %d completed workflow tasks", r.WorkflowTasks())
	}
	current := r
	for current.continued != nil {
		current = current.continued
	}
	current.terminate("reset")

	n := &Run{
		ID: r.ID, RunID: f.newID(), FirstRunID: r.FirstRunID, Type: r.Type, f: f, now: current.now, host: current.host,
		suggestAfter: current.suggestAfter, status: enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING,
	}
	for _, e := range r.events[:cut] {
		e = proto.CloneOf(e)
		n.events = append(n.events, e)
		n.size += int64(proto.Size(e))
		n.apply(e)
		n.applyUpdate(e)
	}
	started := n.events[len(n.events)-1]
	n.write(enumspb.EVENT_TYPE_WORKFLOW_TASK_FAILED, n.now, &historypb.HistoryEvent{
		Attributes: &historypb.HistoryEvent_WorkflowTaskFailedEventAttributes{WorkflowTaskFailedEventAttributes: &historypb.WorkflowTaskFailedEventAttributes{
			ScheduledEventId: started.GetWorkflowTaskStartedEventAttributes().GetScheduledEventId(), StartedEventId: started.GetEventId(),
			Cause: enumspb.WORKFLOW_TASK_FAILED_CAUSE_RESET_WORKFLOW, BaseRunId: r.RunID, NewRunId: n.RunID, Identity: "history-service",
			Failure: &failurepb.Failure{Message: "reset", FailureInfo: &failurepb.Failure_ResetWorkflowFailureInfo{ResetWorkflowFailureInfo: &failurepb.ResetWorkflowFailureInfo{}}},
		}}})
	later := r.events[cut:]
	for run := r; ; {
		for _, e := range later {
			n.reapply(e, exclude)
		}
		if run = run.continued; run == nil {
			break
		}
		later = run.events
	}
	n.schedule(n.now)
	return n
}

// terminate ends the run from outside; one that is over stays as it is.
func (r *Run) terminate(reason string) {
	if r.Closed() {
		return
	}
	if h := r.f.held; h != nil && h.run == r {
		// So the worker clears its cache.
		r.f.held = nil
		h.reply <- reply{err: status.Error(codes.NotFound, "workflow execution already completed")}
	}
	r.write(enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED, r.now, &historypb.HistoryEvent{
		Attributes: &historypb.HistoryEvent_WorkflowExecutionTerminatedEventAttributes{WorkflowExecutionTerminatedEventAttributes: &historypb.WorkflowExecutionTerminatedEventAttributes{
			Reason: reason, Identity: "test",
		}}})
	r.cached = nil
	r.abortUpdates()
}

// Terminate ends the run from outside. A test that leaves many runs open should do so, for they stay in the worker's
// cache.
func (r *Run) Terminate() { r.terminate("the test says so") }

// reapply brings a signal or an update of another run into this one.
func (r *Run) reapply(e *historypb.HistoryEvent, exclude []enumspb.ResetReapplyExcludeType) {
	switch e.GetEventType() {
	case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED:
		if !slices.Contains(exclude, enumspb.RESET_REAPPLY_EXCLUDE_TYPE_SIGNAL) {
			r.write(e.GetEventType(), r.now, proto.CloneOf(e))
		}
	case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED, enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ADMITTED:
		request := e.GetWorkflowExecutionUpdateAcceptedEventAttributes().GetAcceptedRequest()
		if request == nil {
			request = e.GetWorkflowExecutionUpdateAdmittedEventAttributes().GetRequest()
		}
		// An accepted update without its request was admitted before, with it.
		if request == nil || slices.Contains(exclude, enumspb.RESET_REAPPLY_EXCLUDE_TYPE_UPDATE) {
			return
		}
		admitted := r.write(enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ADMITTED, r.now, &historypb.HistoryEvent{
			Attributes: &historypb.HistoryEvent_WorkflowExecutionUpdateAdmittedEventAttributes{WorkflowExecutionUpdateAdmittedEventAttributes: &historypb.WorkflowExecutionUpdateAdmittedEventAttributes{
				Request: proto.CloneOf(request), Origin: enumspb.UPDATE_ADMITTED_EVENT_ORIGIN_REAPPLY,
			}}})
		r.applyUpdate(admitted)
	}
}

// applyUpdate rebuilds what is known of updates from the history.
func (r *Run) applyUpdate(e *historypb.HistoryEvent) {
	known := func(id string) *Update {
		for _, u := range r.updates {
			if u.ID == id {
				return u
			}
		}
		return nil
	}
	switch e.GetEventType() {
	case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ADMITTED:
		request := e.GetWorkflowExecutionUpdateAdmittedEventAttributes().GetRequest()
		r.updates = append(r.updates, &Update{Name: request.GetInput().GetName(), ID: request.GetMeta().GetUpdateId(), request: request, recorded: true})
	case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED:
		a := e.GetWorkflowExecutionUpdateAcceptedEventAttributes()
		u := known(a.GetProtocolInstanceId())
		if u == nil {
			u = &Update{Name: a.GetAcceptedRequest().GetInput().GetName(), ID: a.GetProtocolInstanceId(), request: a.GetAcceptedRequest()}
			r.updates = append(r.updates, u)
		}
		u.State, u.acceptedEvent = Accepted, e.GetEventId()
	case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_COMPLETED:
		a := e.GetWorkflowExecutionUpdateCompletedEventAttributes()
		if u := known(a.GetMeta().GetUpdateId()); u != nil {
			u.State, u.result, u.failure = Completed, a.GetOutcome().GetSuccess(), a.GetOutcome().GetFailure()
		}
	}
}
