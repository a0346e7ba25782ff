package awsrotation

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/rekeyhq/rekey/client"
	"github.com/rekeyhq/rekey/internal/simcloud"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/worker/lambda/awsrotation"
	"github.com/rekeyhq/rekey/workflows"
)

// due is a policy in which the key is always due, and nothing takes longer than it must.
var due = []string{"period: 1ms", "grace: 0s", "soak: 0s", "quiet: 0s"}

// inGrace is one in which the rotation stays in grace.
var inGrace = []string{"period: 3h", "grace: 1h", "soak: 0s", "quiet: 0s"}

// manual starts a rotation as a person does.
func (w *env) manual(key string) {
	w.Helper()
	for _, k := range w.keys {
		if k.Name == key {
			started, err := client.New(w.Client).StartManual(context.Background(), k, "a person", "test")
			w.must(err)
			if !started {
				w.Fatal("one runs already")
			}
		}
	}
}

// reaches waits until the key's rotation is in a phase.
func (w *env) reaches(key string, want rotation.Phase) {
	w.Helper()
	w.AwaitPhase(key, want)
}

func TestAWSsOwnScheduleRotatesAKey(t *testing.T) {
	w := newEnv(t, due...)
	token := w.rotate("ci")
	before := w.on("ci", "AWSCURRENT")
	w.must(w.all("ci", token))
	if at := w.on("ci", "AWSCURRENT"); at != token {
		t.Fatalf("AWSCURRENT is on %s, want the version that AWS has made, %s", at, token)
	}
	if at := w.on("ci", "AWSPREVIOUS"); at != before && at != "" {
		t.Fatalf("AWSPREVIOUS is on %s, want %s", at, before)
	}
	r := w.ended("ci")
	if r.Phase != rotation.Completed || r.Reason != rotation.Scheduled || len(r.Revoked) != 1 || r.Revoked[0] != w.oldID {
		t.Fatalf("the rotation ended as %+v", r)
	}
	if _, live := w.Cloud.LiveKeys()[w.oldID]; live {
		t.Fatal("the old key is still there")
	}
	w.over("ci")
	w.invariants()
	w.runs("ci", 1)

	// And once more, a period later.
	again := w.rotate("ci")
	w.must(w.all("ci", again))
	if at := w.on("ci", "AWSCURRENT"); at != again {
		t.Fatalf("AWSCURRENT is on %s, want %s", at, again)
	}
	w.runs("ci", 2)
}

func TestStepsThatComeTwiceAndHoursLaterStartNothing(t *testing.T) {
	w := newEnv(t, due...)
	token := w.rotate("ci")
	for _, step := range awsrotation.Steps() {
		for range 2 {
			w.must(w.step("ci", token, step))
		}
	}
	w.ended("ci")
	for range 2 {
		for _, step := range awsrotation.Steps() {
			w.must(w.step("ci", token, step))
		}
	}
	w.runs("ci", 1)
	if n := w.minted(); n != 1 {
		t.Fatalf("%d keys were made", n)
	}
	w.over("ci")

	// Another rotation has replaced the key since. AWS's old one is over all the same.
	w.manual("ci")
	w.ended("ci")
	w.runs("ci", 2)
	for _, step := range awsrotation.Steps() {
		w.must(w.step("ci", token, step))
	}
	w.runs("ci", 2)
}

func TestManyFirstStepsAtOnceStartOneRotation(t *testing.T) {
	w := newEnv(t, due...)
	token := w.rotate("ci")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if err := w.step("ci", token, awsrotation.CreateSecret); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	w.runs("ci", 1)
	if n := w.minted(); n != 1 {
		t.Fatalf("%d keys were made", n)
	}
}

func TestAFunctionThatDiesBetweenAndWithinStepsIsTakenUpAgain(t *testing.T) {
	w := newEnv(t, due...)
	reached, release := make(chan struct{}), make(chan struct{})
	w.Cloud.Inject(simcloud.Fault{Service: simcloud.GoogleIAMService, Method: "CreateServiceAccountKey", Times: 1, Kind: simcloud.Hold, Reached: reached, Release: release})
	token := w.rotate("ci")
	w.handler.Patience = 300 * time.Millisecond
	err := w.step("ci", token, awsrotation.CreateSecret)
	w.refused(err, "key ci", "not there yet", "phase create")
	if !errors.Is(err, awsrotation.ErrNotYet) {
		t.Fatalf("got %v", err)
	}
	<-reached
	// The function ends with its time; another one is called, with the same token.
	w.refused(w.step("ci", token, awsrotation.CreateSecret), "not there yet")
	w.refused(w.step("ci", token, awsrotation.FinishSecret), "not there yet")
	close(release)
	w.handler.Patience = 30 * time.Second
	w.must(w.step("ci", token, awsrotation.CreateSecret))
	w.must(w.step("ci", token, awsrotation.SetSecret))
	// Killed here, AWS begins the whole of it again.
	w.must(w.all("ci", token))
	w.ended("ci")
	w.runs("ci", 1)
	if at := w.on("ci", "AWSCURRENT"); at != token {
		t.Fatalf("AWSCURRENT is on %s, want %s", at, token)
	}
	w.invariants()
}

func TestALambdaAnswersBeforeItsTimeIsUp(t *testing.T) {
	w := newEnv(t, due...)
	release := make(chan struct{})
	w.Cloud.Inject(simcloud.Fault{Service: simcloud.GoogleIAMService, Method: "CreateServiceAccountKey", Times: 1, Kind: simcloud.Hold, Release: release})
	token := w.rotate("ci")
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	err := w.sm.RunStep(ctx, "prod/ci", token, string(awsrotation.CreateSecret))
	w.refused(err, "not there yet")
	if ctx.Err() != nil {
		t.Fatal("the answer came too late")
	}
	close(release)
	w.must(w.all("ci", token))
	w.ended("ci")
}

func TestARotationUnderWayIsJoinedAndServesAWS(t *testing.T) {
	w := newEnv(t, inGrace...)
	w.manual("ci")
	w.reaches("ci", rotation.Grace)
	current := w.on("ci", "AWSCURRENT")
	w.must(w.all("ci", w.rotate("ci")))
	w.runs("ci", 1)
	w.over("ci")
	if at := w.on("ci", "AWSCURRENT"); at != current {
		t.Fatal("AWSCURRENT has moved")
	}
	// AWS can begin its next one.
	w.rotate("ci")
}

func TestAVersionThatRekeyHasStagedByItselfIsTakenForAWSs(t *testing.T) {
	w := newEnv(t, due...)
	// The first two moves of a label are the check of what is permitted, and AWSPENDING's. A person rotates, and AWS's schedule comes while the value is staged: AWS takes up the rotation of that version.
	reached, release := make(chan struct{}), make(chan struct{})
	w.must(w.all("ci", w.rotate("ci"))) // AWS knows its function
	w.ended("ci")
	w.Cloud.Inject(simcloud.Fault{Service: simcloud.AWSSecretsService, Method: "UpdateSecretVersionStage", Target: ":prod/ci-", Skip: 2, Times: 1, Kind: simcloud.Hold, Reached: reached, Release: release})
	w.manual("ci")
	<-reached
	token, err := w.sm.PendingToken("prod/ci")
	w.must(err)
	done := make(chan error)
	go func() { done <- w.all("ci", token) }()
	close(release)
	w.must(<-done)
	if at := w.on("ci", "AWSCURRENT"); at != token {
		t.Fatalf("AWSCURRENT is on %s, want %s", at, token)
	}
	w.ended("ci")
	w.runs("ci", 2)
}

func TestAKeyThatIsNotDueIsAnErrorAndAWSCanBeginAgain(t *testing.T) {
	w := newEnv(t, inGrace...)
	token := w.rotate("ci")
	err := w.step("ci", token, awsrotation.CreateSecret)
	w.refused(err, "key ci was not rotated", "not due", "rekey rotate ci")
	w.over("ci")
	w.refused(w.step("ci", token, awsrotation.CreateSecret), "not due")
	w.runs("ci", 1)
	if token == w.rotate("ci") {
		t.Fatal("the same token")
	}
	w.invariants()
}

func TestARotationThatWaitsForAPersonSaysSoAndOneThatRollsBackIsOver(t *testing.T) {
	w := newEnv(t, due...)
	// Nobody can tell how old an OpenAI key is; that it is dead makes it due.
	w.must(w.OpenAI.DeleteKey(w.chatID))
	token := w.rotate("chat")
	for _, step := range awsrotation.Steps() {
		w.refused(w.step("chat", token, step), "waits for a person (awaiting-key)", "rekey status chat")
	}
	w.runs("chat", 1)
	w.must(w.Client.SignalWorkflow(context.Background(), workflows.ID("chat"), "", string(rotation.RollBack), rotation.DecisionMessage{ID: "1", By: "test", Why: "no time"}))
	if r := w.ended("chat"); r.Phase != rotation.RolledBack {
		t.Fatalf("it ended as %s", r.Phase)
	}
	err := w.step("chat", token, awsrotation.FinishSecret)
	w.refused(err, "key chat was not rotated (rolled-back)")
	w.over("chat")
	w.refused(w.step("chat", token, awsrotation.CreateSecret), "rolled-back")
	w.runs("chat", 1)

	// The next one of AWS starts another rotation.
	w.refused(w.step("chat", w.rotate("chat"), awsrotation.CreateSecret), "awaiting-key")
	w.runs("chat", 2)
}

func TestARotationThatWasTerminatedIsAnError(t *testing.T) {
	w := newEnv(t, due...)
	w.must(w.OpenAI.DeleteKey(w.chatID))
	token := w.rotate("chat")
	w.refused(w.step("chat", token, awsrotation.CreateSecret), "awaiting-key")
	w.must(w.Client.TerminateWorkflow(context.Background(), workflows.ID("chat"), "", "test"))
	w.refused(w.step("chat", token, awsrotation.SetSecret), "ended from outside")
	w.over("chat")
}

func TestWhatIsNoRotationOfOursIsRefusedAndStartsNothing(t *testing.T) {
	w := newEnv(t, due...)
	token := w.rotate("ci")
	for sentence, c := range map[string]struct {
		event string
		want  string
	}{
		"an unknown step":          {`{"Step":"deleteSecret","SecretId":"` + w.arn["ci"] + `","ClientRequestToken":"` + token + `"}`, `there is no step "deleteSecret"`},
		"an unknown secret":        {`{"Step":"createSecret","SecretId":"prod/nobody","ClientRequestToken":"` + token + `"}`, "no key of rekey.yaml is in secret prod/nobody"},
		"a secret elsewhere":       {`{"Step":"createSecret","SecretId":"` + strings.Replace(w.arn["ci"], "eu-central-1", "us-east-1", 1) + `","ClientRequestToken":"` + token + `"}`, "no key of rekey.yaml is in secret"},
		"another secret, so named": {`{"Step":"createSecret","SecretId":"` + w.arn["ci"][:len(w.arn["ci"])-6] + `aaaaaa","ClientRequestToken":"` + token + `"}`, "another ARN"},
		"a token that AWS did not": {`{"Step":"createSecret","SecretId":"` + w.arn["ci"] + `","ClientRequestToken":"` + uuid.NewString() + `"}`, "is not staged as AWSPENDING"},
		"a later step before":      {`{"Step":"finishSecret","SecretId":"` + w.arn["ci"] + `","ClientRequestToken":"` + token + `"}`, "AWS begins with createSecret"},
		"its set before":           {`{"Step":"setSecret","SecretId":"` + w.arn["ci"] + `","ClientRequestToken":"` + token + `"}`, "AWS begins with createSecret"},
		"no event":                 {`{}`, "needs Step"},
	} {
		if err := w.handler.Handle(context.Background(), []byte(c.event)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", sentence, err)
		}
	}
	w.sm.SetRotation("prod/ci", false)
	w.refused(w.step("ci", token, awsrotation.CreateSecret), "is not enabled")
	w.sm.SetRotation("prod/ci", true)

	// AWS tries a new configuration out with testSecret alone.
	w.must(w.step("ci", token, awsrotation.TestSecret))
	w.runs("ci", 0)
	if n := w.minted(); n != 0 {
		t.Fatalf("%d keys were made", n)
	}
}
