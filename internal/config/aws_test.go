package config_test

import (
	"strings"
	"testing"

	"github.com/rekeyhq/rekey/internal/config"
)

const onAWS = `install: abc123
providers:
  openai:
    type: openai
stores:
  asm:
    type: aws-secrets-manager
    region: eu-central-1
    role: arn:aws:iam::123456789012:role/ops/rekey
    read_lag: 1h
keys:
  - name: openai-prod
    provider: openai
    account: proj_1
    stores:
      - {store: asm, path: prod/openai}
`

func TestAStoreOnAWSIsReadFromTheFile(t *testing.T) {
	c, err := config.Parse("rekey.yaml", []byte(onAWS))
	if err != nil {
		t.Fatal(err)
	}
	s := c.Stores["asm"]
	if s.Type != config.AWSSecretsManager || s.Region != "eu-central-1" || s.Role != "arn:aws:iam::123456789012:role/ops/rekey" || s.ReadLag.Hours() != 1 {
		t.Fatalf("%+v", s)
	}
}

func TestABadStoreOnAWSIsRefusedWithThePlaceAndWhatWasExpected(t *testing.T) {
	for sentence, c := range map[string]struct{ replace, with, want string }{
		"no region":                           {"    region: eu-central-1\n", "", "stores.asm.region: missing; expected the AWS region"},
		"a region of another cloud":           {"region: eu-central-1", "region: europe-west3", `rekey.yaml:8:13: stores.asm.region: "europe-west3" is not a valid AWS region`},
		"a role by name":                      {"role: arn:aws:iam::123456789012:role/ops/rekey", "role: rekey", `rekey.yaml:9:11: stores.asm.role: "rekey" is not a valid role; expected an ARN`},
		"an ARN as path":                      {"path: prod/openai", `path: "arn:aws:secretsmanager:eu-central-1:123456789012:secret:prod/openai-AbCdEf"`, "keys[0].stores[0].path: "},
		"rekey's own secret as path":          {"path: prod/openai", "path: rekey/prod/openai", "not below rekey/"},
		"an endpoint in the clear":            {"    read_lag: 1h", "    endpoint: http://proxy.example:80", "stores.asm.endpoint: \"http://proxy.example:80\" may not get secrets"},
		"an endpoint that is not a valid URL": {"    read_lag: 1h", "    endpoint: 127.0.0.1:80", "may not get secrets"},
		"a field of Google's":                 {"    read_lag: 1h", "    project: acme", "stores.asm.project: is for type google-secret-manager only; this one is aws-secrets-manager"},
		"a field of the local store's":        {"    read_lag: 1h", "    dir: x", "stores.asm.dir: is for type local only"},
		"a region for Google":                 {"type: aws-secrets-manager", "type: google-secret-manager\n    project: acme", "stores.asm.region: is for type aws-secrets-manager only"},
		"a lag for the local store":           {"type: aws-secrets-manager", "type: local", "stores.asm.read_lag: is for type google-secret-manager and aws-secrets-manager only; this one is local"},
		"keys in the file":                    {"    read_lag: 1h", "    access_key: AKIA", `there is no field "access_key" here`},
	} {
		t.Run(sentence, func(t *testing.T) {
			text := strings.Replace(onAWS, c.replace, c.with, 1)
			if text == onAWS {
				t.Fatalf("the test replaces %q, which the file does not have", c.replace)
			}
			if _, err := config.Parse("rekey.yaml", []byte(text)); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want %s", err, c.want)
			}
		})
	}
}
