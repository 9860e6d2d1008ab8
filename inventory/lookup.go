package inventory

import "fmt"

func byID[T any, K comparable](list []T, id func(T) K) map[K]int {
	m := make(map[K]int, len(list))
	for i, v := range list {
		m[id(v)] = i
	}
	return m
}

func grouped[T any, K comparable](list []T, keys func(T) []K) map[K][]T {
	m := map[K][]T{}
	for _, v := range list {
		for _, k := range keys(v) {
			m[k] = append(m[k], v)
		}
	}
	return m
}

func find1[T any, K comparable](list []T, at map[K]int, id K) (T, bool) {
	i, ok := at[id]
	if !ok {
		var none T
		return none, false
	}
	return list[i], true
}

func notFound[K ~string](noun string, id K) error {
	return fmt.Errorf("%w: %s %q is not in the inventory", ErrNotFound, noun, id)
}
