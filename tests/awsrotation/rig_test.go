// Package awsrotation tests rekey as the rotation function of AWS Secrets Manager: AWS's own steps, on a real Temporal
// server with a worker, and simulated clouds.
package awsrotation

import (
	"bytes"
	"context"
	"encoding/base64"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/google/uuid"
	"go.temporal.io/api/workflowservice/v1"
	sdkclient "go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"

	"github.com/rekeyhq/rekey/client"
	"github.com/rekeyhq/rekey/internal/config"
	"github.com/rekeyhq/rekey/internal/devserver"
	"github.com/rekeyhq/rekey/internal/simcloud"
	"github.com/rekeyhq/rekey/internal/simcloud/scenario"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/secret"
	"github.com/rekeyhq/rekey/worker/adapters"
	"github.com/rekeyhq/rekey/worker/engine"
	"github.com/rekeyhq/rekey/worker/lambda/awsrotation"
	"github.com/rekeyhq/rekey/workflows"
)

// server is the Temporal server that all tests share, each in a namespace of its own.
var server *devserver.Server

func TestMain(m *testing.M) {
	// Rotations that have lost a request mostly wait; more of them at once than there are cores.
	flag.Parse()
	err := flag.Set("test.parallel", "8")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if server, err = devserver.Start(context.Background(), devserver.Options{}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	_ = server.Stop()
	os.Exit(code)
}

const lambda = "arn:aws:lambda:eu-central-1:123456789012:function:rekey"

// town is a simulated cloud with a Google key, `ci`, and an OpenAI key, `chat`, each in a secret of AWS that AWS rotates,
// a namespace, a worker and the rotation function.
type town struct {
	*testing.T
	*scenario.Scenario
	sm      *simcloud.AWSSecrets
	aws     *secretsmanager.Client
	client  sdkclient.Client
	handler *awsrotation.Handler
	keys    []rotation.Key
	// oldID and chatID are the keys in place.
	oldID, chatID string
	arn           map[string]string

	mu   sync.Mutex
	logs bytes.Buffer
}

func (w *town) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.logs.Write(p)
}

var silent = log.NewStructuredLogger(slog.New(slog.DiscardHandler))

// newTown has keys with a policy, one `field: value` each.
func newTown(t *testing.T, policy ...string) *town {
	t.Helper()
	ctx := context.Background()
	w := &town{T: t, arn: map[string]string{}}
	var err error
	w.Scenario, err = scenario.Start(scenario.Options{Mode: "create", KeyBits: 1024, Propagation: "5s", RevocationLag: "5s"})
	w.must(err)
	t.Cleanup(w.Scenario.Stop)
	w.sm, err = w.Cloud.StartAWSSecrets(simcloud.AWSSecretsOptions{})
	w.must(err)
	t.Cleanup(w.sm.Stop)
	w.aws = secretsmanager.New(secretsmanager.Options{
		Region: w.sm.Region, BaseEndpoint: &w.sm.URL, Retryer: aws.NopRetryer{},
		Credentials: credentials.NewStaticCredentialsProvider(simcloud.AWSAccessKey, simcloud.AWSSecretKey, ""),
	})
	file := w.YAML() + fmt.Sprintf("  asm: {type: aws-secrets-manager, region: %s, endpoint: %q, request_timeout: 5s, read_lag: 0s}\nkeys:\n", w.sm.Region, w.sm.URL)
	w.IAM.AddServiceAccount(scenario.Account("ci"))
	oldID, google, err := w.IAM.CreateForeignKey(scenario.Account("ci"))
	w.must(err)
	w.oldID = oldID
	chatID, openai := w.OpenAI.CreateKey(scenario.OpenAIProject("chat"), "made by hand")
	w.chatID = chatID
	for _, k := range []struct {
		name, provider, account string
	}{{"ci", "google", scenario.Account("ci")}, {"chat", "openai", scenario.OpenAIProject("chat")}} {
		file += fmt.Sprintf("  - {name: %s, provider: %s, account: %q, stores: [{store: asm, path: prod/%s}], policy: {%s}}\n", k.name, k.provider, k.account, k.name, strings.Join(policy, ", "))
		value := google
		if k.name == "chat" {
			value = openai
		}
		w.arn[k.name], err = w.sm.CreateSecret("prod/"+k.name, value)
		w.must(err)
		_, err = w.sm.CreateSecret("rekey/prod/"+k.name, secret.Value{})
		w.must(err)
	}
	cfg, err := config.Parse("rekey.yaml", []byte(file))
	w.must(err)
	w.keys = cfg.Keys
	acts, err := adapters.Open(ctx, cfg, nil)
	w.must(err)
	namespace := "aws-" + strings.ToLower(uuid.NewString()[:8])
	w.must(server.AddNamespace(ctx, namespace, workflows.SearchAttributes()))
	w.client, err = sdkclient.DialContext(ctx, sdkclient.Options{HostPort: server.HostPort(), Namespace: namespace, Logger: silent})
	w.must(err)
	t.Cleanup(w.client.Close)
	running, err := engine.Start(ctx, w.client, namespace, acts, engine.Options{})
	w.must(err)
	t.Cleanup(running.Stop)
	stores, err := adapters.AWSStores(ctx, cfg)
	w.must(err)
	w.handler = &awsrotation.Handler{
		Stores: map[string]awsrotation.Secrets{"asm": stores["asm"]}, Keys: cfg.Keys, Rotations: client.Client{Temporal: w.client},
		Interval: 20 * time.Millisecond, Patience: 30 * time.Second, Log: slog.New(slog.NewJSONHandler(w, nil)),
	}
	w.sm.DeployLambda(lambda, w.handler.Handle)
	t.Cleanup(w.noSecrets)
	return w
}

func (w *town) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// rotate asks AWS for a rotation, as its schedule does, and gives the token.
func (w *town) rotate(key string) (token string) {
	w.Helper()
	token = uuid.NewString()
	_, err := w.aws.RotateSecret(context.Background(), &secretsmanager.RotateSecretInput{SecretId: aws.String("prod/" + key), ClientRequestToken: &token, RotationLambdaARN: aws.String(lambda)})
	w.must(err)
	return token
}

// step is one call of AWS.
func (w *town) step(key, token string, step awsrotation.Step) error {
	return w.sm.RunStep(context.Background(), "prod/"+key, token, string(step))
}

// all runs the four steps once, as AWS does again and again until they succeed.
func (w *town) all(key, token string) error {
	return w.sm.RunRotation(context.Background(), "prod/"+key, token)
}

// on returns the version that has a label.
func (w *town) on(key, label string) string {
	for id, labels := range w.sm.Labels("prod/" + key) {
		if slices.Contains(labels, label) {
			return id
		}
	}
	return ""
}

// over checks that AWS takes its rotation for ended: AWSPENDING is nowhere, or where AWSCURRENT is.
func (w *town) over(key string) {
	w.Helper()
	if at := w.on(key, "AWSPENDING"); at != "" && at != w.on(key, "AWSCURRENT") {
		w.Fatalf("AWSPENDING is left on version %s", at)
	}
}

// ended waits until the key's latest rotation has ended, and gives how.
func (w *town) ended(key string) rotation.Result {
	w.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var r rotation.Result
	w.must(client.Wait(ctx, w.client, workflows.ID(key), "", &r))
	return r
}

// runs counts the rotations of the key that Temporal lists, once it lists as many as are wanted.
func (w *town) runs(key string, want int) {
	w.Helper()
	var n int
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		page, err := w.client.ListWorkflow(context.Background(), &workflowservice.ListWorkflowExecutionsRequest{Query: fmt.Sprintf("WorkflowId = '%s'", workflows.ID(key))})
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
func (w *town) minted() (n int) {
	for _, e := range w.Cloud.Journal() {
		if e.Kind == simcloud.KeyCreated && e.KeyID != w.oldID && e.Service == simcloud.GoogleIAMService {
			n++
		}
	}
	return n
}

// refused checks that a step failed, with these words.
func (w *town) refused(err error, words ...string) {
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
func (w *town) noSecrets() {
	w.mu.Lock()
	defer w.mu.Unlock()
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
func (w *town) invariants() {
	w.Helper()
	for _, broken := range w.Cloud.Check(simcloud.Rules{Groups: [][]string{{w.arn["ci"]}, {w.arn["chat"]}}}) {
		w.Error(broken)
	}
}
