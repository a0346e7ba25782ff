package lockstep

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	commandpb "go.temporal.io/api/command/v1"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	failurepb "go.temporal.io/api/failure/v1"
	historypb "go.temporal.io/api/history/v1"
	querypb "go.temporal.io/api/query/v1"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// Done is what came of a workflow task.
type Done struct {
	// Commands are what the workflow wants, in its order.
	Commands []*commandpb.Command
	// Replayed: the worker had to replay the history.
	Replayed bool
	// Refused: the workflow wanted to end while something that it did not know had happened, so the server failed the
	// task. What the workflow wanted is gone; the next task shows it what had happened.
	Refused bool
	// Dropped: there was nothing in it but updates that the workflow rejected, so the history knows nothing of it.
	Dropped bool
	// Details are the workflow's current details, if Options.Details asks for them.
	Details string
}

// TaskError is the failure of a workflow task: a panic, or a workflow that is not deterministic.
type TaskError struct {
	Cause enumspb.WorkflowTaskFailedCause
	// Failure has the stack of a panic.
	Failure *failurepb.Failure
}

func (e *TaskError) Error() string {
	text := fmt.Sprintf("workflow task failed (%s): %s", e.Cause, e.Failure.GetMessage())
	if stack := e.Failure.GetStackTrace(); stack != "" {
		text += "\n" + stack
	}
	return text
}

// Nondeterministic reports whether err is a workflow task that failed because the workflow did not do again what its
// history says.
func Nondeterministic(err error) bool {
	var e *TaskError
	return errors.As(err, &e) && e.Cause == enumspb.WORKFLOW_TASK_FAILED_CAUSE_NON_DETERMINISTIC_ERROR
}

const metadataQuery = "__temporal_workflow_metadata"

// Task delivers all that has happened since the last one in one workflow task, and carries out what the workflow
// wants. An error is a *TaskError; the history then has the failed task, and the next Task tries again.
func (r *Run) Task() (*Done, error) {
	f := r.f
	f.t.Helper()
	f.check()
	if !r.Ready() {
		f.t.Fatalf("lockstep: nothing has happened, so there is no workflow task; open: %s", r.Pending())
	}
	// An update alone makes a task that is in no history until it is known that it leaves something.
	before, size, speculative := len(r.events), r.size, r.scheduled == 0
	if speculative {
		r.schedule(r.now)
	}
	scheduled := r.scheduled
	started := r.write(enumspb.EVENT_TYPE_WORKFLOW_TASK_STARTED, r.now, r.taskStarted(scheduled)).GetEventId()
	r.scheduled = 0
	sent := slices.DeleteFunc(slices.Clone(r.updates), func(u *Update) bool { return !u.waiting() })

	r.running = true
	if m := r.meanwhile; m != nil {
		r.meanwhile = nil
		m()
	}
	sticky := r.cached == r.host
	task := &workflowservice.PollWorkflowTaskQueueResponse{
		TaskToken: f.token(), WorkflowExecution: r.execution(), WorkflowType: &commonpb.WorkflowType{Name: r.Type},
		PreviousStartedEventId: r.started, StartedEventId: started, Attempt: 1, History: &historypb.History{Events: r.events},
		WorkflowExecutionTaskQueue: normalQueue(), ScheduledTime: timestamppb.New(r.now), StartedTime: timestamppb.New(r.now),
	}
	for _, u := range sent {
		if m := u.message(started - 1); m != nil {
			task.Messages = append(task.Messages, m)
		}
	}
	if f.options.Details {
		task.Queries = map[string]*querypb.WorkflowQuery{metadataQuery: {QueryType: metadataQuery}}
	}
	if sticky {
		task.History.Events = r.events[r.started:]
	}
	a := f.deliver(r, task, sticky)
	r.running = false

	lost := r.lost
	r.lost = false

	if a.failed != nil {
		r.taskFailed(scheduled, started, a.failed.GetCause(), a.failed.GetFailure())
		a.reply <- reply{}
		r.flush()
		r.told = len(r.events)
		r.schedule(r.now)
		f.check()
		return nil, &TaskError{Cause: a.failed.GetCause(), Failure: a.failed.GetFailure()}
	}
	if a.completed == nil {
		f.t.Fatalf("lockstep: the worker answered a workflow task with something else: %v", a)
	}
	done := &Done{Commands: a.completed.GetCommands(), Replayed: !sticky || lost, Details: f.details(a.completed.GetQueryResults()[metadataQuery].GetAnswer())}
	switch {
	case speculative && len(done.Commands) == 0 && len(r.behind) == 0 && onlyRejections(a.completed.GetMessages()):
		f.mu.Lock()
		r.events = r.events[:before]
		f.mu.Unlock()
		r.size, r.scheduled, done.Dropped = size, 0, true
		for _, m := range a.completed.GetMessages() {
			r.handleMessage(m)
		}
		r.rejectUnprocessed(sent)
		f.held = &held{run: r, host: r.host, reset: r.started, reply: a.reply}
	case r.closesTooEarly(done.Commands):
		done.Refused = true
		r.taskFailed(scheduled, started, enumspb.WORKFLOW_TASK_FAILED_CAUSE_UNHANDLED_COMMAND, nil)
		r.flush()
		r.told = len(r.events)
		r.schedule(r.now)
		a.reply <- reply{err: status.Error(codes.InvalidArgument, "UnhandledCommand")}
	default:
		r.taskCompleted(scheduled, started, a.completed)
		r.rejectUnprocessed(sent)
		r.told = len(r.events)
		if r.Closed() {
			r.abortUpdates()
			r.cached = nil
			a.reply <- reply{completed: &workflowservice.RespondWorkflowTaskCompletedResponse{}}
		} else {
			r.cached = r.host
			f.held = &held{run: r, host: r.host, reply: a.reply}
		}
		r.flush()
		if a.completed.GetForceCreateNewWorkflowTask() {
			r.schedule(r.now)
		}
	}
	f.check()
	return done, nil
}

// MustTask is Task that fails the test if the workflow task fails.
func (r *Run) MustTask() *Done {
	r.f.t.Helper()
	done, err := r.Task()
	if err != nil {
		r.f.t.Fatal("lockstep:", err)
	}
	return done
}

func (r *Run) execution() *commonpb.WorkflowExecution {
	return &commonpb.WorkflowExecution{WorkflowId: r.ID, RunId: r.RunID}
}

func (r *Run) taskStarted(scheduled int64) *historypb.HistoryEvent {
	a := &historypb.WorkflowTaskStartedEventAttributes{
		ScheduledEventId: scheduled, Identity: r.host.identity, RequestId: "request", HistorySizeBytes: r.size,
	}
	if r.suggestAfter > 0 && len(r.events) >= r.suggestAfter {
		a.SuggestContinueAsNew = true
		a.SuggestContinueAsNewReasons = []enumspb.SuggestContinueAsNewReason{enumspb.SUGGEST_CONTINUE_AS_NEW_REASON_TOO_MANY_HISTORY_EVENTS}
	}
	return &historypb.HistoryEvent{Attributes: &historypb.HistoryEvent_WorkflowTaskStartedEventAttributes{WorkflowTaskStartedEventAttributes: a}}
}

func (r *Run) taskFailed(scheduled, started int64, cause enumspb.WorkflowTaskFailedCause, failure *failurepb.Failure) {
	r.cached = nil
	r.write(enumspb.EVENT_TYPE_WORKFLOW_TASK_FAILED, r.now, &historypb.HistoryEvent{
		Attributes: &historypb.HistoryEvent_WorkflowTaskFailedEventAttributes{WorkflowTaskFailedEventAttributes: &historypb.WorkflowTaskFailedEventAttributes{
			ScheduledEventId: scheduled, StartedEventId: started, Cause: cause, Failure: failure, Identity: r.host.identity,
		}}})
}

// flush lets happen what came while the workflow task was under way, results last, as the server orders it. What
// comes too late for a workflow that has ended is lost, as it is there.
func (r *Run) flush() {
	behind := r.behind
	r.behind = nil
	if r.Closed() || len(behind) == 0 {
		return
	}
	slices.SortStableFunc(behind, func(a, b queued) int {
		switch {
		case a.last == b.last:
			return 0
		case b.last:
			return -1
		default:
			return 1
		}
	})
	for _, q := range behind {
		q.do()
	}
	r.schedule(r.now)
}

// closesTooEarly reports whether the workflow ends although something happened that it does not know.
func (r *Run) closesTooEarly(commands []*commandpb.Command) bool {
	unknown := make(map[string]int, len(r.behind))
	left := len(r.behind)
	for _, q := range r.behind {
		unknown[q.about]++
	}
	for _, c := range commands {
		switch c.GetCommandType() {
		case enumspb.COMMAND_TYPE_CANCEL_TIMER:
			// A timer that fired meanwhile and is cancelled now has never fired.
			left -= unknown["timer "+c.GetCancelTimerCommandAttributes().GetTimerId()]
		case enumspb.COMMAND_TYPE_COMPLETE_WORKFLOW_EXECUTION, enumspb.COMMAND_TYPE_FAIL_WORKFLOW_EXECUTION,
			enumspb.COMMAND_TYPE_CANCEL_WORKFLOW_EXECUTION, enumspb.COMMAND_TYPE_CONTINUE_AS_NEW_WORKFLOW_EXECUTION:
			return left > 0
		}
	}
	return false
}

// deliver hands a task to the worker and waits for its answer. If the worker still waits for the reply to its last
// one, and has the workflow in its cache, the task travels with that reply, as it can with a server; the SDK polls no
// more than a thousand times a second.
func (f *Frontend) deliver(r *Run, task *workflowservice.PollWorkflowTaskQueueResponse, sticky bool) answer {
	f.t.Helper()
	f.mu.Lock()
	f.current, f.whole = task, r
	f.mu.Unlock()
	patience := time.NewTimer(f.options.Patience)
	defer patience.Stop()
	if h := f.held; h != nil && h.run == r && h.host == r.host && sticky && task.Query == nil {
		f.held = nil
		h.reply <- reply{completed: &workflowservice.RespondWorkflowTaskCompletedResponse{ResetHistoryEventId: h.reset, WorkflowTask: task}}
	} else {
		f.release()
		queue := r.host.normal
		if sticky {
			queue = r.host.sticky
		}
		select {
		case queue <- task:
		case <-patience.C:
			f.t.Fatalf("lockstep: the worker %s does not poll", r.host.identity)
		}
	}
	select {
	case a := <-f.answers:
		f.mu.Lock()
		f.current, f.whole = nil, nil
		f.mu.Unlock()
		return a
	case <-patience.C:
		f.t.Fatalf("lockstep: the worker %s does not answer", r.host.identity)
		return answer{}
	}
}

// String lists the commands in one line.
func (d *Done) String() string {
	var all []string
	for _, c := range d.Commands {
		all = append(all, Summary(c))
	}
	return strings.Join(all, ", ")
}
