// Takes half a second.
export default function slow(_request, response) {
  console.log("slow");
  setTimeout(() => response.send("hello\n"), 500);
}
