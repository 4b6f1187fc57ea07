// Decode reads Kubernetes objects (YAML, several documents) from its standard input as the API server does: an unknown
// or doubled field, a value of another type, an unknown kind are errors. It holds the pods of deployments against the
// Pod Security Standard "restricted". It prints a line of JSON for each object, with what that standard forbids.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	apps "k8s.io/api/apps/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	serializer "k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

type result struct {
	Kind      string   `json:"kind"`
	Name      string   `json:"name"`
	Forbidden []string `json:"forbidden"`
}

func main() {
	if err := run(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "decode:", err)
		os.Exit(1)
	}
}

func run(in io.Reader, out io.Writer) error {
	if err := monitoring.AddToScheme(scheme.Scheme); err != nil {
		return err
	}
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		return err
	}
	decoder := serializer.NewSerializerWithOptions(
		serializer.DefaultMetaFactory, scheme.Scheme, scheme.Scheme, serializer.SerializerOptions{Yaml: true, Strict: true})
	documents := yaml.NewYAMLReader(bufio.NewReader(in))
	lines := json.NewEncoder(out)
	for number := 1; ; number++ {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		object, kind, err := decoder.Decode(document, nil, nil)
		if runtime.IsMissingKind(err) && isEmpty(document) {
			continue
		}
		if err != nil {
			return fmt.Errorf("document %d: %w", number, err)
		}
		each := result{Kind: kind.Kind, Name: object.(meta.Object).GetName(), Forbidden: []string{}}
		if deployment, ok := object.(*apps.Deployment); ok {
			template := deployment.Spec.Template
			level := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
			for _, check := range evaluator.EvaluatePod(level, &template.ObjectMeta, &template.Spec) {
				if !check.Allowed {
					each.Forbidden = append(each.Forbidden, check.ForbiddenReason+": "+check.ForbiddenDetail)
				}
			}
		}
		if err := lines.Encode(each); err != nil {
			return err
		}
	}
}

// Helm leaves documents of comments alone where a template writes nothing.
func isEmpty(document []byte) bool {
	var content map[string]any
	return yaml.Unmarshal(document, &content) == nil && len(content) == 0
}
