package activities_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"

	"github.com/rekeyhq/rekey/activities"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/rotation/fault"
)

const leak = "Incorrect API key provided: sk-proj-abcdefghijklmnop1234"

// crossed is what a workflow gets of an activity that does f.
func crossed(t *testing.T, f func(context.Context) (string, error)) (string, error) {
	t.Helper()
	suite := &testsuite.WorkflowTestSuite{}
	suite.SetLogger(silent)
	env := suite.NewTestActivityEnvironment()
	env.SetWorkerOptions(worker.Options{Interceptors: []interceptor.WorkerInterceptor{&activities.Interceptor{}}})
	env.RegisterActivityWithOptions(f, activity.RegisterOptions{Name: "step"})
	out, err := env.ExecuteActivity("step")
	if err != nil {
		return "", err
	}
	var text string
	if err := out.Get(&text); err != nil {
		t.Fatal(err)
	}
	return text, nil
}

func TestEveryClassOfFailureCrossesAsItsTypeAndSaysWhetherToRetry(t *testing.T) {
	for class, retryable := range map[fault.Class]bool{
		fault.Rejected: false, fault.NotFound: false, fault.AccessDenied: true, fault.Internal: false, fault.Unavailable: true, fault.Throttled: true,
	} {
		t.Run(string(class), func(t *testing.T) {
			f := fault.New(class, "503", "list keys of ci").WithAdvice("Do %s at %s.", "this", fault.Link("https://x"))
			f.Unsettled, f.RetryAfter = true, 42*time.Second
			for sentence, err := range map[string]error{"as it is": f, "wrapped": fmt.Errorf("%s: %w", leak, f), "joined": errors.Join(errors.New(leak), f)} {
				_, got := crossed(t, func(context.Context) (string, error) { return "", err })
				var app *temporal.ApplicationError
				if !errors.As(got, &app) {
					t.Fatalf("%s: %T", sentence, got)
				}
				if app.Type() != string(class) || app.NonRetryable() == retryable || app.NextRetryDelay() != 42*time.Second {
					t.Errorf("%s: type %s, not retryable: %v, next in %s", sentence, app.Type(), app.NonRetryable(), app.NextRetryDelay())
				}
				var details activities.Failure
				if err := app.Details(&details); err != nil || !reflect.DeepEqual(details, activities.Failure{Code: "503", Advice: "Do this at https://x.", Links: []string{"https://x"}, Unsettled: true, RetryAfter: rotation.Duration(42 * time.Second)}) {
					t.Errorf("%s: details %+v, %v", sentence, details, err)
				}
				if !strings.Contains(got.Error(), "list keys of ci") || strings.Contains(got.Error(), "sk-") {
					t.Errorf("%s: %q", sentence, got)
				}
			}
		})
	}
}

// asks is an activity that the other side asks to come again later.
func asks(class fault.Class, after time.Duration) func(context.Context) (string, error) {
	return func(context.Context) (string, error) {
		f := fault.New(class, "429", "list keys of ci")
		f.RetryAfter = after
		return "", f
	}
}

func TestALongRetryAfterIsWaitedOutWhereMessagesAreHeard(t *testing.T) {
	for sentence, c := range map[string]struct {
		workflow string
		after    time.Duration
		tries    int
		delay    time.Duration
	}{
		"a minute, in a rotation":                     {"RotateKey", time.Minute, 3, time.Minute},
		"more than a minute, in a rotation":           {"RotateKey", time.Minute + time.Second, 1, time.Minute},
		"a day, in a rotation":                        {"RotateKey", 24 * time.Hour, 1, time.Minute},
		"a day, where nobody waits for the workflow":  {"Dispatch", 24 * time.Hour, 3, time.Minute},
		"ten seconds, in a rotation":                  {"RotateKey", 10 * time.Second, 3, 10 * time.Second},
		"no wait at all, so that the policy says all": {"RotateKey", 0, 3, 0},
	} {
		t.Run(sentence, func(t *testing.T) {
			tries := 0
			asked := &step{workflow: c.workflow, policy: thrice(), activity: func(ctx context.Context) (string, error) {
				tries++
				return asks(fault.Throttled, c.after)(ctx)
			}}
			got := asked.run()
			var app *temporal.ApplicationError
			if !errors.As(got, &app) || app.Type() != string(fault.Throttled) {
				t.Fatal(got)
			}
			if tries != c.tries {
				t.Errorf("%d tries, want %d", tries, c.tries)
			}
			if waited := asked.end.Sub(asked.begin).Truncate(time.Second); c.delay > 0 && waited != time.Duration(c.tries-1)*c.delay {
				t.Errorf("%s between %d tries, want %s each", waited, tries, c.delay)
			}
			var details activities.Failure
			if err := app.Details(&details); err != nil || time.Duration(details.RetryAfter) != c.after {
				t.Errorf("the workflow gets %s, %v; want %s", details.RetryAfter, err, c.after)
			}
		})
	}
	t.Run("a day, in no workflow", func(t *testing.T) {
		ctx := context.Background()
		_, got := (&activities.Interceptor{}).InterceptActivity(ctx, &throttled{}).ExecuteActivity(ctx, nil)
		var app *temporal.ApplicationError
		if !errors.As(got, &app) || app.NonRetryable() || app.NextRetryDelay() != time.Minute {
			t.Errorf("%v", got)
		}
	})
}

// throttled is an activity that the other side asks to come again in a day.
type throttled struct {
	interceptor.ActivityInboundInterceptorBase
}

func (*throttled) ExecuteActivity(ctx context.Context, _ *interceptor.ExecuteActivityInput) (any, error) {
	return asks(fault.Throttled, 24*time.Hour)(ctx)
}

func TestAMissingPermissionIsTriedAgainOnlyWhereThePolicyWantsIt(t *testing.T) {
	for _, wants := range []bool{true, false} {
		tries := 0
		policy := thrice()
		if !wants {
			policy.NonRetryableErrorTypes = []string{string(fault.AccessDenied)}
		}
		denied := &step{workflow: "RotateKey", policy: policy, activity: func(context.Context) error {
			tries++
			return fault.New(fault.AccessDenied, "403", "list keys of ci")
		}}
		err := denied.run()
		if err == nil || wants != (tries == 3) || !wants != (tries == 1) {
			t.Errorf("wanted: %v, %d tries, %v", wants, tries, err)
		}
	}
}

func TestWhatNobodyClassifiedCrossesWithoutItsText(t *testing.T) {
	for sentence, f := range map[string]func(context.Context) (string, error){
		"an error":              func(context.Context) (string, error) { return "", errors.New(leak) },
		"an error that wraps":   func(context.Context) (string, error) { return "", fmt.Errorf("oops %s: %w", leak, errors.New(leak)) },
		"an ApplicationError":   func(context.Context) (string, error) { return "", temporal.NewApplicationError(leak, leak, leak) },
		"a panic":               func(context.Context) (string, error) { panic(leak) },
		"a panic with an error": func(context.Context) (string, error) { panic(errors.New(leak)) },
		"a runtime panic": func(context.Context) (string, error) {
			var m map[string]string
			m[leak] = leak //nolint:staticcheck // the panic is the point
			return "", nil
		},
		"a code that is free text": func(context.Context) (string, error) {
			return "", fault.New(fault.Internal, leak, "run")
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			_, got := crossed(t, f)
			var app *temporal.ApplicationError
			if !errors.As(got, &app) {
				t.Fatalf("%T", got)
			}
			if app.Type() != string(fault.Internal) || !app.NonRetryable() || app.Unwrap() != nil {
				t.Errorf("type %s, not retryable: %v, cause %v", app.Type(), app.NonRetryable(), app.Unwrap())
			}
			var details activities.Failure
			_ = app.Details(&details)
			if all := fmt.Sprintf("%v %+v %+v", got, got, details); strings.Contains(all, "sk-") {
				t.Errorf("the text crossed: %s", all)
			}
		})
	}
}

// outOfTime is an activity that its context has ended.
type outOfTime struct {
	interceptor.ActivityInboundInterceptorBase
}

func (*outOfTime) ExecuteActivity(ctx context.Context, _ *interceptor.ExecuteActivityInput) (any, error) {
	return leak, fmt.Errorf("%s: %w", leak, ctx.Err())
}

func TestAnActivityWhoseTimeIsUpMayHaveTakenEffect(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	out, got := (&activities.Interceptor{}).InterceptActivity(ctx, &outOfTime{}).ExecuteActivity(ctx, nil)
	var app *temporal.ApplicationError
	var details activities.Failure
	if out != nil || !errors.As(got, &app) || app.Details(&details) != nil {
		t.Fatalf("%v, %v", out, got)
	}
	if app.Type() != string(fault.Unavailable) || app.NonRetryable() || !details.Unsettled || strings.Contains(got.Error(), "sk-") {
		t.Errorf("%v %+v", got, details)
	}
}

func TestWhatSucceedsCrossesUntouched(t *testing.T) {
	if got, err := crossed(t, func(context.Context) (string, error) { return "done", nil }); got != "done" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

var silent = log.NewStructuredLogger(slog.New(slog.DiscardHandler))
