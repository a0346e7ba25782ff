// Package sdktest makes the SDK's test environment behave as Temporal does where the two differ.
package sdktest

import (
	"context"
	"math"
	"sync"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"
)

// Interceptors returns what an environment's worker options need besides the project's own interceptors:
//
//   - An activity whose retry policy has no limit is tried for as long as a server tries it. The environment gives up after
//     the tenth time.
//   - An activity that was cancelled between two tries is not tried again. The environment tries it all the same.
//
// It sets the environment's listener for cancelled activities.
func Interceptors(env *testsuite.TestWorkflowEnvironment) []interceptor.WorkerInterceptor {
	c := &cancelled{}
	env.SetOnActivityCanceledListener(func(info *activity.Info) { c.ids.Store(info.ActivityID, true) })
	return []interceptor.WorkerInterceptor{&unlimited{}, c}
}

type unlimited struct {
	interceptor.WorkerInterceptorBase
}

func (*unlimited) InterceptWorkflow(_ workflow.Context, next interceptor.WorkflowInboundInterceptor) interceptor.WorkflowInboundInterceptor {
	return &unlimitedInbound{interceptor.WorkflowInboundInterceptorBase{Next: next}}
}

type unlimitedInbound struct {
	interceptor.WorkflowInboundInterceptorBase
}

func (i *unlimitedInbound) Init(next interceptor.WorkflowOutboundInterceptor) error {
	return i.Next.Init(&unlimitedOutbound{interceptor.WorkflowOutboundInterceptorBase{Next: next}})
}

type unlimitedOutbound struct {
	interceptor.WorkflowOutboundInterceptorBase
}

func (o *unlimitedOutbound) ExecuteActivity(ctx workflow.Context, name string, args ...any) workflow.Future {
	if p := workflow.GetActivityOptions(ctx).RetryPolicy; p != nil && p.MaximumAttempts == 0 {
		policy := *p
		policy.MaximumAttempts = math.MaxInt32
		ctx = workflow.WithRetryPolicy(ctx, policy)
	}
	return o.Next.ExecuteActivity(ctx, name, args...)
}

type cancelled struct {
	interceptor.WorkerInterceptorBase
	ids sync.Map
}

func (c *cancelled) InterceptActivity(_ context.Context, next interceptor.ActivityInboundInterceptor) interceptor.ActivityInboundInterceptor {
	return &cancelledInbound{interceptor.ActivityInboundInterceptorBase{Next: next}, c}
}

type cancelledInbound struct {
	interceptor.ActivityInboundInterceptorBase
	all *cancelled
}

func (i *cancelledInbound) ExecuteActivity(ctx context.Context, in *interceptor.ExecuteActivityInput) (any, error) {
	if _, dead := i.all.ids.Load(activity.GetInfo(ctx).ActivityID); dead {
		return nil, temporal.NewNonRetryableApplicationError("cancelled before", "Internal", nil)
	}
	return i.Next.ExecuteActivity(ctx, in)
}
