export default function Page() {
  return <p>An application.</p>;
}
