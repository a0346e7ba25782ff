// Package awsrotation tests rekey as the rotation function of AWS Secrets Manager: AWS's own steps, on a real Temporal
// server with a worker, and simulated clouds.
package awsrotation

import (
	"context"
	"encoding/base64"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/google/uuid"
	"go.temporal.io/api/workflowservice/v1"

	"github.com/rekeyhq/rekey/client"
	"github.com/rekeyhq/rekey/internal/simcloud"
	"github.com/rekeyhq/rekey/internal/simcloud/scenario"
	"github.com/rekeyhq/rekey/internal/testenv"
	"github.com/rekeyhq/rekey/internal/testlog"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/secret"
	"github.com/rekeyhq/rekey/worker/adapters"
	"github.com/rekeyhq/rekey/worker/lambda/awsrotation"
	"github.com/rekeyhq/rekey/workflows"
)

// Rotations that have lost a request mostly wait; more of them at once than there are cores.
func TestMain(m *testing.M) { os.Exit(testenv.Main(m, testenv.MainOptions{Parallel: 8})) }

const lambda = "arn:aws:lambda:eu-central-1:123456789012:function:rekey"

// env has a Google key, `ci`, and an OpenAI key, `chat`, each in a secret of AWS that AWS rotates, a worker and the rotation
// function.
type env struct {
	*testenv.Env
	sm      *simcloud.AWSSecrets
	aws     *secretsmanager.Client
	handler *awsrotation.Handler
	keys    []rotation.Key
	// oldID and chatID are the keys in place.
	oldID, chatID string
	arn           map[string]string

	logs testlog.Buffer
}

// newEnv has keys with a policy, one `field: value` each.
func newEnv(t *testing.T, policy ...string) *env {
	t.Helper()
	ctx := context.Background()
	w := &env{arn: map[string]string{}}
	w.Env = testenv.Start(t, testenv.Options{SimOptions: testenv.SimOptions{
		Scenario: scenario.Options{Mode: "create", KeyBits: 1024, Propagation: "5s", RevocationLag: "5s"}, Keys: w.addKeys,
		Edit: func(yaml string) string {
			yaml += fmt.Sprintf("  asm: {type: aws-secrets-manager, region: %s, endpoint: %q, request_timeout: 5s, read_lag: 0s}\nkeys:\n", w.sm.Region, w.sm.URL)
			for _, k := range []struct {
				name, provider, account string
			}{{"ci", "google", scenario.Account("ci")}, {"chat", "openai", scenario.OpenAIProject("chat")}} {
				yaml += fmt.Sprintf("  - {name: %s, provider: %s, account: %q, stores: [{store: asm, path: prod/%s}], policy: {%s}}\n", k.name, k.provider, k.account, k.name, strings.Join(policy, ", "))
			}
			return yaml
		},
	}})
	t.Cleanup(w.sm.Stop)
	w.aws = secretsmanager.New(secretsmanager.Options{
		Region: w.sm.Region, BaseEndpoint: &w.sm.URL, Retryer: aws.NopRetryer{},
		Credentials: credentials.NewStaticCredentialsProvider(simcloud.AWSAccessKey, simcloud.AWSSecretKey, ""),
	})
	w.keys = w.Config.Keys
	w.StartWorkers()
	stores, err := adapters.AWSStores(ctx, w.Config)
	w.must(err)
	w.handler = &awsrotation.Handler{
		Stores: map[string]awsrotation.Secrets{"asm": stores["asm"]}, Keys: w.keys, Rotations: client.New(w.Client),
		Interval: 20 * time.Millisecond, Patience: 30 * time.Second, Log: slog.New(slog.NewJSONHandler(&w.logs, nil)),
	}
	w.sm.DeployLambda(lambda, w.handler.Handle)
	t.Cleanup(w.noSecrets)
	return w
}

// addKeys starts the store, and puts the keys into it.
func (w *env) addKeys(s *scenario.Scenario) (err error) {
	if w.sm, err = s.Cloud.StartAWSSecrets(simcloud.AWSSecretsOptions{}); err != nil {
		return err
	}
	s.IAM.AddServiceAccount(scenario.Account("ci"))
	oldID, google, err := s.IAM.CreateForeignKey(scenario.Account("ci"))
	if err != nil {
		return err
	}
	chatID, openai := s.OpenAI.CreateKey(scenario.OpenAIProject("chat"), "made by hand")
	w.oldID, w.chatID = oldID, chatID
	for name, value := range map[string]secret.Value{"ci": google, "chat": openai} {
		if w.arn[name], err = w.sm.CreateSecret("prod/"+name, value); err != nil {
			return err
		}
		if _, err = w.sm.CreateSecret("rekey/prod/"+name, secret.Value{}); err != nil {
			return err
		}
	}
	return nil
}

func (w *env) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// rotate asks AWS for a rotation, as its schedule does, and gives the token.
func (w *env) rotate(key string) (token string) {
	w.Helper()
	token = uuid.NewString()
	_, err := w.aws.RotateSecret(context.Background(), &secretsmanager.RotateSecretInput{SecretId: aws.String("prod/" + key), ClientRequestToken: &token, RotationLambdaARN: aws.String(lambda)})
	w.must(err)
	return token
}

// step is one call of AWS.
func (w *env) step(key, token string, step awsrotation.Step) error {
	return w.sm.RunStep(context.Background(), "prod/"+key, token, string(step))
}

// all runs the four steps once, as AWS does again and again until they succeed.
func (w *env) all(key, token string) error {
	return w.sm.RunRotation(context.Background(), "prod/"+key, token)
}

// on returns the version that has a label.
func (w *env) on(key, label string) string {
	for id, labels := range w.sm.Labels("prod/" + key) {
		if slices.Contains(labels, label) {
			return id
		}
	}
	return ""
}

// over checks that AWS takes its rotation for ended: AWSPENDING is nowhere, or where AWSCURRENT is.
func (w *env) over(key string) {
	w.Helper()
	if at := w.on(key, "AWSPENDING"); at != "" && at != w.on(key, "AWSCURRENT") {
		w.Fatalf("AWSPENDING is left on version %s", at)
	}
}

// ended waits until the key's latest rotation has ended, and gives how.
func (w *env) ended(key string) rotation.Result {
	w.Helper()
	return w.Result(key, "")
}

// runs counts the rotations of the key that Temporal lists, once it lists as many as are wanted.
func (w *env) runs(key string, want int) {
	w.Helper()
	var n int
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		page, err := w.Client.ListWorkflow(context.Background(), &workflowservice.ListWorkflowExecutionsRequest{Query: fmt.Sprintf("WorkflowId = '%s'", workflows.ID(key))})
		w.must(err)
		if n = len(page.GetExecutions()); n >= want {
			break
		}
	}
	if n != want {
		w.Fatalf("%d rotations of %s, want %d", n, key, want)
	}
}

// minted counts the keys that rekey made at the provider.
func (w *env) minted() (n int) {
	for _, e := range w.Cloud.Journal() {
		if e.Kind == simcloud.KeyCreated && e.KeyID != w.oldID && e.Service == simcloud.GoogleIAMService {
			n++
		}
	}
	return n
}

// refused checks that a step failed, with these words.
func (w *env) refused(err error, words ...string) {
	w.Helper()
	if err == nil {
		w.Fatal("AWS was told that the step is done")
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			w.Errorf("%q does not say %q", err, word)
		}
	}
}

// noSecrets looks for every value that was ever stored in what the function has logged; errors are part of that.
func (w *env) noSecrets() {
	said := w.logs.String()
	if said == "" {
		w.Error("the function has logged nothing, so nothing can be said of it")
	}
	for _, v := range w.sm.Seen() {
		plain := v.Reveal()
		if len(plain) > 4 && (strings.Contains(said, plain) || strings.Contains(said, base64.StdEncoding.EncodeToString([]byte(plain)))) {
			w.Errorf("the value %v stands in the logs", v)
		}
	}
	if strings.Contains(said, "00000000-1111-2222-3333-444444444444") {
		w.Error("AWS's RotationToken stands in the logs")
	}
}

// invariants checks the journal.
func (w *env) invariants() {
	w.Helper()
	for _, broken := range w.Cloud.Check(simcloud.Rules{Groups: [][]string{{w.arn["ci"]}, {w.arn["chat"]}}}) {
		w.Error(broken)
	}
}
