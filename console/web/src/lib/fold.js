// fold makes text comparable for a search: no tone marks, đ as d, small letters.
export function fold(text) {
  return String(text ?? '')
    .normalize('NFD')
    .replace(/[\u0300-\u036f]/g, '')
    .replace(/[đĐ]/g, 'd')
    .toLowerCase();
}

// matcher gives a test that holds when every word of the query is in the text.
export function matcher(query) {
  const words = fold(query).split(/\s+/).filter(Boolean);
  return (folded) => words.every((w) => folded.includes(w));
}
