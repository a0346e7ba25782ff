package lockstep

import (
	"fmt"
	"slices"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	failurepb "go.temporal.io/api/failure/v1"
	historypb "go.temporal.io/api/history/v1"
	protocolpb "go.temporal.io/api/protocol/v1"
	updatepb "go.temporal.io/api/update/v1"
	"google.golang.org/protobuf/types/known/anypb"
)

// UpdateState is how far an update has come.
type UpdateState int

const (
	// Admitted: the workflow has not answered it yet.
	Admitted UpdateState = iota
	// Rejected: the workflow's validator said no, or no handler knows it. The history does not have it.
	Rejected
	// Accepted: its handler runs.
	Accepted
	// Completed: its handler has ended, with a result or an error.
	Completed
	// Aborted: the workflow ended before the handler did, or before the workflow saw it.
	Aborted
)

func (s UpdateState) String() string {
	return [...]string{"admitted", "rejected", "accepted", "completed", "aborted"}[s]
}

// Update is an update that was sent to the workflow.
type Update struct {
	Name, ID string
	// State is how far it has come, as of the last workflow task.
	State UpdateState

	request *updatepb.Request
	// recorded: the history has the request already, in an event of its own.
	recorded      bool
	result        *commonpb.Payloads
	failure       *failurepb.Failure
	acceptedEvent int64
}

// Result decodes what the handler returned into to, which may be nil, or returns why there is nothing: the error of
// the validator or of the handler.
func (u *Update) Result(to any) error {
	switch {
	case u.failure != nil:
		return failureConverter.FailureToError(u.failure)
	case u.State != Completed:
		return fmt.Errorf("lockstep: the update is %s", u.State)
	case to == nil:
		return nil
	}
	return dataConverter.FromPayloads(u.result, to)
}

func (u *Update) waiting() bool { return u.State == Admitted }

func (u *Update) message(sequence int64) *protocolpb.Message {
	if u.recorded {
		return nil
	}
	body, err := anypb.New(u.request)
	if err != nil {
		panic(err)
	}
	return &protocolpb.Message{
		Id: u.ID + "/request", ProtocolInstanceId: u.ID, Body: body,
		SequencingId: &protocolpb.Message_EventId{EventId: sequence},
	}
}

// Update sends the workflow an update; an empty ID makes one. What becomes of it is in the Update after the task.
// As on a server, it comes behind all else in the same task, wherever the test put it; but the SDK runs the handlers of
// updates before the workflow's other coroutines.
func (r *Run) Update(name, id string, args ...any) *Update {
	r.f.t.Helper()
	if r.Closed() {
		r.f.t.Fatalf("lockstep: the run %s is over, it takes no update", r.RunID)
	}
	if id == "" {
		id = fmt.Sprintf("update-%d", len(r.updates)+1)
	}
	if slices.ContainsFunc(r.updates, func(u *Update) bool { return u.ID == id && u.State != Rejected }) {
		r.f.t.Fatalf("lockstep: there is an update %s already", id)
	}
	u := &Update{Name: name, ID: id, request: &updatepb.Request{
		Meta:  &updatepb.Meta{UpdateId: id, Identity: "test"},
		Input: &updatepb.Input{Name: name, Args: r.f.encode(args...)},
	}}
	r.updates = append(r.updates, u)
	return u
}

// Updates are all updates that the run was sent, and how they fared.
func (r *Run) Updates() []*Update { return slices.Clone(r.updates) }

func onlyRejections(messages []*protocolpb.Message) bool {
	return !slices.ContainsFunc(messages, func(m *protocolpb.Message) bool { return !m.GetBody().MessageIs((*updatepb.Rejection)(nil)) })
}

// handleMessage does what the workflow says about an update.
func (r *Run) handleMessage(m *protocolpb.Message) {
	r.f.t.Helper()
	// The last one with that ID: a rejected one may have been sent again.
	var u *Update
	for _, one := range slices.Backward(r.updates) {
		if one.ID == m.GetProtocolInstanceId() {
			u = one
			break
		}
	}
	if u == nil {
		r.f.t.Fatalf("lockstep: the workflow answers the update %s, which nobody sent", m.GetProtocolInstanceId())
	}
	body, err := m.GetBody().UnmarshalNew()
	if err != nil {
		r.f.t.Fatal("lockstep:", err)
	}
	expect := func(s UpdateState) {
		r.f.t.Helper()
		if u.State != s {
			r.f.t.Fatalf("lockstep: the workflow sent %s for the update %s, which is %s", body.ProtoReflect().Descriptor().Name(), u.ID, u.State)
		}
	}
	switch body := body.(type) {
	case *updatepb.Acceptance:
		expect(Admitted)
		a := &historypb.WorkflowExecutionUpdateAcceptedEventAttributes{
			ProtocolInstanceId: u.ID, AcceptedRequestMessageId: u.ID + "/request",
			AcceptedRequestSequencingEventId: body.GetAcceptedRequestSequencingEventId(),
		}
		if !u.recorded {
			a.AcceptedRequest = u.request
		}
		u.State = Accepted
		u.acceptedEvent = r.write(enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED, r.now, &historypb.HistoryEvent{
			Attributes: &historypb.HistoryEvent_WorkflowExecutionUpdateAcceptedEventAttributes{WorkflowExecutionUpdateAcceptedEventAttributes: a},
		}).GetEventId()
	case *updatepb.Rejection:
		expect(Admitted)
		u.State, u.failure = Rejected, body.GetFailure()
	case *updatepb.Response:
		expect(Accepted)
		u.State, u.result, u.failure = Completed, body.GetOutcome().GetSuccess(), body.GetOutcome().GetFailure()
		r.write(enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_COMPLETED, r.now, &historypb.HistoryEvent{
			Attributes: &historypb.HistoryEvent_WorkflowExecutionUpdateCompletedEventAttributes{WorkflowExecutionUpdateCompletedEventAttributes: &historypb.WorkflowExecutionUpdateCompletedEventAttributes{
				Meta: body.GetMeta(), AcceptedEventId: u.acceptedEvent, Outcome: body.GetOutcome(),
			}}})
	default:
		r.f.t.Fatalf("lockstep: the workflow sent a %s, which lockstep does not know", body.ProtoReflect().Descriptor().FullName())
	}
}

// rejectUnprocessed rejects the updates that a worker had and did not answer, as the server does.
func (r *Run) rejectUnprocessed(sent []*Update) {
	if r.Closed() {
		return
	}
	for _, u := range sent {
		if u.waiting() {
			u.State, u.failure = Rejected, &failurepb.Failure{Message: "the workflow task ended without an answer to the update"}
		}
	}
}

func (r *Run) abortUpdates() {
	for _, u := range r.updates {
		if u.State == Admitted || u.State == Accepted {
			u.State, u.failure = Aborted, &failurepb.Failure{Message: "the workflow ended before the update did"}
		}
	}
}
