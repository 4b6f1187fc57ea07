package main

import (
	"math"

	"lookalike.example/client"
	lookalikev1 "lookalike.example/client/gen/lookalike/v1"
)

// report is what the tour prints. A step that was not reached is left out.
type report struct {
	Health        string  `json:"health,omitzero"`
	Model         *model  `json:"model,omitzero"`
	SearchByImage *answer `json:"search_by_image,omitzero"`
	SearchByID    *answer `json:"search_by_id,omitzero"`
	EmbedStream   []item  `json:"embed_stream,omitzero"`
	// BadImage leads to nil, which is printed as null, where the server took the file after all.
	BadImage **client.Refusal `json:"bad_image,omitzero"`
	Failed   *failure         `json:"failed,omitzero"`
}

type failure struct {
	Step  string          `json:"step"`
	Error *client.Refusal `json:"error"`
}

type model struct {
	Name        string `json:"name"`
	Backbone    string `json:"backbone"`
	Weights     string `json:"weights"`
	Dim         uint32 `json:"dim"`
	Metric      string `json:"metric"`
	InputWidth  uint32 `json:"input_width"`
	InputHeight uint32 `json:"input_height"`
	Precision   string `json:"precision"`
	Digest      string `json:"digest"`
}

type answer struct {
	Neighbors   []neighbor `json:"neighbors"`
	ModelDigest string     `json:"model_digest"`
}

type neighbor struct {
	ID         string  `json:"id"`
	Category   string  `json:"category"`
	Title      string  `json:"title"`
	Distance   float64 `json:"distance"`
	Similarity float64 `json:"similarity"`
	ImageIndex uint32  `json:"image_index"`
}

// item is the answer to one photo of the stream: an embedding or an error.
type item struct {
	ID string `json:"id"`
	*embedding
	Error *client.Refusal `json:"error,omitzero"`
}

type embedding struct {
	Dim   int       `json:"dim"`
	Norm  float64   `json:"norm"`
	First []float64 `json:"first"`
}

func describeModel(reply *lookalikev1.GetModelResponse) *model {
	return &model{
		Name:        reply.GetName(),
		Backbone:    reply.GetBackbone(),
		Weights:     reply.GetWeights(),
		Dim:         reply.GetDim(),
		Metric:      reply.GetMetric().String(),
		InputWidth:  reply.GetInputWidth(),
		InputHeight: reply.GetInputHeight(),
		Precision:   reply.GetPrecision(),
		Digest:      reply.GetDigest(),
	}
}

func describeAnswer(reply *lookalikev1.SearchResponse) *answer {
	neighbors := make([]neighbor, 0, len(reply.GetNeighbors()))
	for _, each := range reply.GetNeighbors() {
		neighbors = append(neighbors, neighbor{
			ID:         each.GetProduct().GetId(),
			Category:   each.GetProduct().GetCategory(),
			Title:      each.GetProduct().GetTitle(),
			Distance:   float64(each.GetDistance()),
			Similarity: float64(each.GetSimilarity()),
			ImageIndex: each.GetImageIndex(),
		})
	}
	return &answer{Neighbors: neighbors, ModelDigest: reply.GetReceipt().GetModelDigest()}
}

func describeItem(reply *lookalikev1.EmbedStreamResponse) item {
	if told := reply.GetStatus(); told != nil {
		return item{ID: reply.GetId(), Error: client.FromStatus(told)}
	}
	return item{ID: reply.GetId(), embedding: describeEmbedding(reply.GetEmbedding().GetValues())}
}

func describeEmbedding(values []float32) *embedding {
	first := make([]float64, 0, 4)
	squares := 0.0
	for i, value := range values {
		wide := float64(value)
		squares += wide * wide
		if i < cap(first) {
			first = append(first, wide)
		}
	}
	return &embedding{Dim: len(values), Norm: math.Sqrt(squares), First: first}
}
