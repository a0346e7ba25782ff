package activities

import (
	"context"
	"errors"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/temporal"

	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/rotation/fault"
)

// Failure is what a workflow learns about a failed activity besides its class, which is the type of the
// ApplicationError.
type Failure struct {
	Code      string `json:"code,omitempty"`
	Advice    string `json:"advice,omitempty"`
	Unsettled bool   `json:"unsettled,omitempty"`
	// Links are the addresses in the text that rekey itself put there.
	Links []string `json:"links,omitempty"`
	// Retried: the activity was tried before, and that try may have taken effect, or may yet.
	Retried bool `json:"retried,omitempty"`
	// RetryAfter is how long the other side asked us to wait.
	RetryAfter rotation.Duration `json:"retryAfter,omitempty"`
}

// MaxRetryDelay is the longest delay that an activity's own retry takes on because the other side asked for it. During
// that delay nobody hears a message: a provider that asks for a day would hold an emergency up for as long.
const MaxRetryDelay = time.Minute

// Interceptor turns every error that leaves an activity into an ApplicationError whose type is the fault class,
// so that retry policies and workflows can tell them apart, and whose text is our own (I5). An error that nobody
// classified, and a panic, cross as Internal without their text. Register it on every worker: an activity
// without it could write a provider's words into the history.
//
// Rejected, NotFound and Internal are not retried, whatever the policy. AccessDenied is left to the policy: somebody may
// grant what is missing within a minute, or never. A policy that does not want to wait for that names it:
//
//	temporal.RetryPolicy{NonRetryableErrorTypes: []string{string(fault.AccessDenied)}}
//
// A wait that the other side asks for becomes the delay of the next try, up to a minute. Where it asks for more, the
// failure is not retried in a rotation (RotateKey), which reads Failure.RetryAfter and waits itself; elsewhere the next
// try comes after a minute.
type Interceptor struct {
	interceptor.WorkerInterceptorBase
}

// InterceptActivity implements interceptor.WorkerInterceptor.
func (*Interceptor) InterceptActivity(_ context.Context, next interceptor.ActivityInboundInterceptor) interceptor.ActivityInboundInterceptor {
	return &inbound{interceptor.ActivityInboundInterceptorBase{Next: next}}
}

type inbound struct {
	interceptor.ActivityInboundInterceptorBase
}

// ExecuteActivity implements interceptor.ActivityInboundInterceptor.
func (i *inbound) ExecuteActivity(ctx context.Context, in *interceptor.ExecuteActivityInput) (out any, err error) {
	defer func() {
		// The text of a panic, and its stack, may show arguments.
		if recover() != nil {
			out, err = nil, applicationError(ctx, fault.New(fault.Internal, "panic", "run an activity"))
		}
	}()
	out, err = i.Next.ExecuteActivity(ctx, in)
	if err == nil {
		return out, nil
	}
	if ctx.Err() != nil && !errors.As(err, new(*fault.Error)) {
		err = &fault.Error{Class: fault.Unavailable, Code: "deadline", Doing: "finish in time", Unsettled: true}
	}
	return nil, applicationError(ctx, fault.Of(err))
}

func applicationError(ctx context.Context, f *fault.Error) error {
	var category temporal.ApplicationErrorCategory
	if f == errUnchanged {
		category = temporal.ApplicationErrorCategoryBenign
	}
	return temporal.NewApplicationErrorWithOptions(f.Error(), string(f.Class), temporal.ApplicationErrorOptions{
		NonRetryable:   !f.Class.Retryable() && f.Class != fault.AccessDenied || f.RetryAfter > MaxRetryDelay && inRotation(ctx),
		NextRetryDelay: min(f.RetryAfter, MaxRetryDelay),
		Category:       category,
		Details:        []any{Failure{Code: f.Code, Advice: f.Advice, Links: f.Links, Unsettled: f.Unsettled, Retried: retried(ctx), RetryAfter: rotation.Duration(f.RetryAfter)}},
	})
}

// inRotation reports whether an activity belongs to a workflow that waits itself.
func inRotation(ctx context.Context) bool {
	if !activity.IsActivity(ctx) {
		return false
	}
	w := activity.GetInfo(ctx).WorkflowType
	return w != nil && w.Name == RotateKeyType
}

// retried reports whether the running activity was tried before.
func retried(ctx context.Context) bool {
	return activity.IsActivity(ctx) && activity.GetInfo(ctx).Attempt > 1
}
