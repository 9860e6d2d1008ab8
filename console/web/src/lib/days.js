const zone = 'Asia/Ho_Chi_Minh';
const length = 86_400_000; // ms; there is no daylight saving

// dayAfter is the city's date n days after a moment (ms), as date inputs want it.
export function dayAfter(at, n = 0) {
  return new Intl.DateTimeFormat('en-CA', { timeZone: zone, year: 'numeric', month: '2-digit', day: '2-digit' }).format(new Date(at + n * length));
}

// endOf is the last second of such a day in the city, for the API.
export function endOf(day) {
  return new Date(`${day}T23:59:59+07:00`).toISOString();
}
