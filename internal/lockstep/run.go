package lockstep

import (
	"fmt"
	"slices"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	failurepb "go.temporal.io/api/failure/v1"
	historypb "go.temporal.io/api/history/v1"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// DefaultStart is when a run begins unless its StartOptions say otherwise.
var DefaultStart = time.Date(2024, 3, 4, 9, 0, 0, 0, time.UTC)

// StartOptions are how a run begins.
type StartOptions struct {
	// ID is the workflow ID; empty makes one.
	ID string
	// At is the moment of the start; zero is DefaultStart.
	At time.Time
	// SearchAttributes and Memo are the workflow's from the start.
	SearchAttributes temporal.SearchAttributes
	Memo             map[string]any
	// Parent makes it a child workflow of that execution.
	Parent *commonpb.WorkflowExecution
}

// Run is one run of a workflow: its history, its clock, and what is still open.
type Run struct {
	// ID, RunID and FirstRunID name the run; Type is its workflow's.
	ID, RunID, FirstRunID, Type string

	f            *Frontend
	now          time.Time
	events       []*historypb.HistoryEvent
	size         int64
	suggestAfter int

	pending    Pending
	updates    []*Update
	memo       map[string]*commonpb.Payload
	attributes map[string]*commonpb.Payload

	// scheduled is the event that scheduled the next workflow task; 0: there is none.
	scheduled int64
	// started is the event that started the last completed workflow task.
	started int64
	// told is how many events the worker has seen, and made.
	told int
	// cached is the worker that has the workflow in its cache; nil: no worker has.
	cached *host
	// lost: it has lost it, and the server does not know.
	lost bool
	host *host
	// running: a workflow task is under way; behind holds what happens meanwhile.
	running   bool
	behind    []queued
	meanwhile func()

	status    enumspb.WorkflowExecutionStatus
	continued *Run
}

// queued is something that happens while a workflow task is under way.
type queued struct {
	// about is the timer or activity that it is about.
	about string
	// last: the server puts it behind all else.
	last bool
	do   func()
}

// Start begins a run of a workflow with the given arguments. The first Task runs its first workflow task.
func (f *Frontend) Start(workflowType string, o StartOptions, args ...any) *Run {
	f.t.Helper()
	runID := f.newID()
	if o.ID == "" {
		o.ID = fmt.Sprintf("workflow-%d", f.runs)
	}
	if o.At.IsZero() {
		o.At = DefaultStart
	}
	started := &historypb.WorkflowExecutionStartedEventAttributes{
		WorkflowType: &commonpb.WorkflowType{Name: workflowType}, WorkflowId: o.ID,
		Input: f.encode(args...), OriginalExecutionRunId: runID, FirstExecutionRunId: runID,
		Memo: f.memo(o.Memo), SearchAttributes: f.searchAttributes(o.SearchAttributes),
		ParentWorkflowExecution: o.Parent, RootWorkflowExecution: &commonpb.WorkflowExecution{WorkflowId: o.ID, RunId: runID},
	}
	if o.Parent != nil {
		started.ParentWorkflowNamespace, started.RootWorkflowExecution = namespace, o.Parent
	}
	return f.begin(runID, o.At, started, f.options.SuggestContinueAsNewAfter)
}

func (f *Frontend) begin(runID string, at time.Time, started *historypb.WorkflowExecutionStartedEventAttributes, suggestAfter int) *Run {
	started.TaskQueue = normalQueue()
	started.WorkflowTaskTimeout = durationpb.New(10 * time.Second)
	started.Attempt = 1
	started.Identity = "lockstep"
	r := &Run{
		ID: started.GetWorkflowId(), RunID: runID, FirstRunID: started.GetFirstExecutionRunId(), Type: started.GetWorkflowType().GetName(),
		f: f, now: at, host: f.workers[f.runs%len(f.workers)], suggestAfter: suggestAfter, status: enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING,
	}
	r.happen(queued{do: func() {
		r.write(enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED, at, &historypb.HistoryEvent{
			Attributes: &historypb.HistoryEvent_WorkflowExecutionStartedEventAttributes{WorkflowExecutionStartedEventAttributes: started}})
	}})
	return r
}

func normalQueue() *taskqueuepb.TaskQueue {
	return &taskqueuepb.TaskQueue{Name: taskQueue, Kind: enumspb.TASK_QUEUE_KIND_NORMAL}
}

// write adds an event to the history and brings what is open up to date.
func (r *Run) write(kind enumspb.EventType, at time.Time, event *historypb.HistoryEvent) *historypb.HistoryEvent {
	event.EventType, event.EventTime = kind, timestamppb.New(at)
	event.EventId = int64(len(r.events)) + 1
	event.TaskId = 1000 + event.EventId
	r.f.mu.Lock()
	r.events = append(r.events, event)
	r.f.mu.Unlock()
	r.size += int64(proto.Size(event))
	r.apply(event)
	return event
}

// happen lets something happen to the workflow: at once, or once the workflow task that is under way has ended.
func (r *Run) happen(q queued) {
	r.f.t.Helper()
	if r.Closed() {
		r.f.t.Fatalf("lockstep: the run %s is over, nothing can happen to it any more", r.RunID)
	}
	if r.running {
		r.behind = append(r.behind, q)
		return
	}
	q.do()
	r.schedule(r.now)
}

func (r *Run) schedule(at time.Time) {
	if r.scheduled == 0 && !r.Closed() {
		r.scheduled = r.write(enumspb.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED, at, &historypb.HistoryEvent{
			Attributes: &historypb.HistoryEvent_WorkflowTaskScheduledEventAttributes{WorkflowTaskScheduledEventAttributes: &historypb.WorkflowTaskScheduledEventAttributes{
				TaskQueue: normalQueue(), StartToCloseTimeout: durationpb.New(10 * time.Second), Attempt: 1,
			}}}).GetEventId()
	}
}

// Meanwhile lets f choose events while the next workflow task is under way: they come into the history behind the
// task's own events, signals first and results last, as the server orders them. If the workflow wants to end in that
// task, the server does not let it; see Done.Refused.
func (r *Run) Meanwhile(f func()) { r.meanwhile = f }

// Ready reports whether there is anything that a workflow task would deliver.
func (r *Run) Ready() bool {
	return !r.Closed() && (r.scheduled != 0 || slices.ContainsFunc(r.updates, (*Update).waiting))
}

// Closed reports whether the run is over.
func (r *Run) Closed() bool { return r.status != enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING }

// Status is the run's status as the server would show it.
func (r *Run) Status() enumspb.WorkflowExecutionStatus { return r.status }

// Now is the run's clock.
func (r *Run) Now() time.Time { return r.now }

// History is a copy of the history, for the SDK's replayer.
func (r *Run) History() *historypb.History {
	return proto.CloneOf(&historypb.History{Events: r.events})
}

// Replay replays the history with the SDK's replayer.
func (r *Run) Replay() error {
	replayer := worker.NewWorkflowReplayer()
	r.f.register(replayer)
	return replayer.ReplayWorkflowHistory(r.f.logger, r.History())
}

// Len is the number of events in the history.
func (r *Run) Len() int { return len(r.events) }

// SuggestContinueAsNewAfter changes the number of events from which on workflow tasks suggest continue-as-new, for
// this run and those that follow it; 0 never suggests it.
func (r *Run) SuggestContinueAsNewAfter(events int) { r.suggestAfter = events }

// Continued is the run that this one continued as; nil if it did not.
func (r *Run) Continued() *Run { return r.continued }

// Input decodes the workflow's arguments.
func (r *Run) Input(to ...any) error {
	return dataConverter.FromPayloads(r.events[0].GetWorkflowExecutionStartedEventAttributes().GetInput(), to...)
}

// Result decodes the workflow's result into to, or returns the error that it ended with.
func (r *Run) Result(to any) error {
	last := r.events[len(r.events)-1]
	switch r.status {
	case enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED:
		if to == nil {
			return nil
		}
		return dataConverter.FromPayloads(last.GetWorkflowExecutionCompletedEventAttributes().GetResult(), to)
	case enumspb.WORKFLOW_EXECUTION_STATUS_FAILED:
		return failureConverter.FailureToError(last.GetWorkflowExecutionFailedEventAttributes().GetFailure())
	case enumspb.WORKFLOW_EXECUTION_STATUS_CANCELED:
		return temporal.NewCanceledError()
	default:
		return fmt.Errorf("lockstep: the run is %s", r.status)
	}
}

// Memo decodes a field of the workflow's memo as it stands.
func (r *Run) Memo(name string, to any) error {
	p, ok := r.memo[name]
	if !ok {
		return fmt.Errorf("lockstep: the memo has no %q", name)
	}
	return dataConverter.FromPayload(p, to)
}

// SearchAttribute decodes a search attribute as it stands, and reports whether it is set.
func (r *Run) SearchAttribute(name string, to any) (bool, error) {
	p, ok := r.attributes[name]
	if !ok {
		return false, nil
	}
	return true, dataConverter.FromPayload(p, to)
}

// DropCache makes the worker forget the workflow, as after a restart: the next task comes with the whole history, and
// replays it.
func (r *Run) DropCache() { r.cached, r.lost = nil, false }

// OtherWorker returns the next tasks to another worker, which replays the history first.
func (r *Run) OtherWorker() {
	r.DropCache()
	i := slices.Index(r.f.workers, r.host)
	r.host = r.f.workers[(i+1)%len(r.f.workers)]
}

// LoseCache makes the worker forget the workflow without the server's knowing: the next task comes with the latest
// part of the history, and the worker asks for the whole.
func (r *Run) LoseCache() {
	if r.cached == nil {
		return
	}
	// Another worker has never had it in its cache, which comes to the same.
	r.OtherWorker()
	r.cached, r.lost = r.host, true
}

func (f *Frontend) encode(args ...any) *commonpb.Payloads {
	f.t.Helper()
	if len(args) == 0 {
		return nil
	}
	p, err := dataConverter.ToPayloads(args...)
	if err != nil {
		f.t.Fatal("lockstep: cannot encode:", err)
	}
	return p
}

func (f *Frontend) memo(fields map[string]any) *commonpb.Memo {
	f.t.Helper()
	if len(fields) == 0 {
		return nil
	}
	m := &commonpb.Memo{Fields: map[string]*commonpb.Payload{}}
	for name, value := range fields {
		m.Fields[name] = f.encode(value).GetPayloads()[0]
	}
	return m
}

func (f *Frontend) searchAttributes(attributes temporal.SearchAttributes) *commonpb.SearchAttributes {
	f.t.Helper()
	if attributes.Size() == 0 {
		return nil
	}
	s := &commonpb.SearchAttributes{IndexedFields: map[string]*commonpb.Payload{}}
	for key, value := range attributes.GetUntypedValues() {
		p := f.encode(value).GetPayloads()[0]
		p.Metadata["type"] = []byte(key.GetValueType().String())
		s.IndexedFields[key.GetName()] = p
	}
	return s
}

func toFailure(err error) *failurepb.Failure { return failureConverter.ErrorToFailure(err) }
