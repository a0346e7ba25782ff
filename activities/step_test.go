package activities_test

import (
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/rekeyhq/rekey/activities"
)

// step is an activity that runs as a step of a workflow, on Temporal's skipping clock.
type step struct {
	workflow string
	policy   *temporal.RetryPolicy
	activity any
	in       []any
	out      any

	begin, end time.Time
}

func (s *step) run() error {
	suite := &testsuite.WorkflowTestSuite{}
	suite.SetLogger(silent)
	env := suite.NewTestWorkflowEnvironment()
	env.SetWorkerOptions(worker.Options{Interceptors: []interceptor.WorkerInterceptor{&activities.Interceptor{}}})
	env.RegisterActivityWithOptions(s.activity, activity.RegisterOptions{Name: "step"})
	env.RegisterWorkflowWithOptions(func(ctx workflow.Context) error {
		s.begin = workflow.Now(ctx)
		ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Minute, RetryPolicy: s.policy})
		err := workflow.ExecuteActivity(ctx, "step", s.in...).Get(ctx, s.out)
		s.end = workflow.Now(ctx)
		return err
	}, workflow.RegisterOptions{Name: s.workflow})
	env.SetStartWorkflowOptions(client.StartWorkflowOptions{ID: activities.WorkflowID("ci")})
	env.ExecuteWorkflow(s.workflow)
	return env.GetWorkflowError()
}

// thrice tries again twice.
func thrice() *temporal.RetryPolicy { return &temporal.RetryPolicy{MaximumAttempts: 3} }
