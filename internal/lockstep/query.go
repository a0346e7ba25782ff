package lockstep

import (
	"errors"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	querypb "go.temporal.io/api/query/v1"
	sdkpb "go.temporal.io/api/sdk/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/converter"
)

// Query asks the workflow, as it was after its last workflow task. A worker that has it in its cache answers from
// there; otherwise the history is replayed.
func (r *Run) Query(name string, args ...any) (converter.EncodedValue, error) {
	r.f.t.Helper()
	payloads, err := r.query(name, args...)
	if err != nil {
		return nil, err
	}
	return encoded{payloads}, nil
}

// Details are the workflow's current details.
func (r *Run) Details() string {
	r.f.t.Helper()
	payloads, err := r.query(metadataQuery)
	if err != nil {
		r.f.t.Fatal("lockstep:", err)
	}
	return r.f.details(payloads)
}

func (r *Run) query(name string, args ...any) (*commonpb.Payloads, error) {
	r.f.t.Helper()
	r.f.check()
	if r.started == 0 {
		r.f.t.Fatal("lockstep: a workflow can be asked after its first workflow task")
	}
	// Everything that the worker did must be in its cache before it is asked.
	r.f.release()
	sticky := r.cached == r.host && !r.lost
	task := &workflowservice.PollWorkflowTaskQueueResponse{
		TaskToken: r.f.token(), WorkflowExecution: r.execution(), WorkflowType: &commonpb.WorkflowType{Name: r.Type},
		PreviousStartedEventId: r.started, WorkflowExecutionTaskQueue: normalQueue(), History: &historypb.History{},
		Query: &querypb.WorkflowQuery{QueryType: name, QueryArgs: r.f.encode(args...)},
	}
	if !sticky {
		task.History.Events = r.events[:r.told]
	}
	a := r.f.deliver(r, task, sticky)
	a.reply <- reply{}
	switch {
	case a.query == nil:
		r.f.t.Fatalf("lockstep: the worker answered a query with something else: %v", a)
	case a.query.GetCompletedType() == enumspb.QUERY_RESULT_TYPE_FAILED:
		return nil, errors.New(a.query.GetErrorMessage())
	}
	return a.query.GetQueryResult(), nil
}

func (f *Frontend) details(payloads *commonpb.Payloads) string {
	f.t.Helper()
	if payloads == nil {
		return ""
	}
	var m sdkpb.WorkflowMetadata
	if err := dataConverter.FromPayloads(payloads, &m); err != nil {
		f.t.Fatal("lockstep: the workflow's metadata:", err)
	}
	return m.GetCurrentDetails()
}

type encoded struct{ payloads *commonpb.Payloads }

func (e encoded) HasValue() bool   { return e.payloads != nil }
func (e encoded) Get(to any) error { return dataConverter.FromPayloads(e.payloads, to) }
