//! The report as one self-contained page: the waterfall of microseconds a token, and below it the table.

use std::fmt::Write;

use super::report::{Line, StagesReport};

/// Width of the drawing in pixels; `ROW`: height of one bar with its gap.
const WIDTH: f64 = 900.0;
const BAR: f64 = 28.0;
/// Pixels to the left of the bars, for the names.
const LEFT: f64 = 260.0;

/// The HTML of the page.
pub fn render(report: &StagesReport) -> String {
    let lines = report.lines();
    let mut page = String::from(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>cllm stages</title>\n<style>\
         body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}\
         svg{width:100%;height:auto}text{font-size:13px}table{border-collapse:collapse;width:100%}\
         td,th{text-align:right;padding:.2rem .6rem;border-bottom:1px solid #ddd}td:nth-child(2),th:nth-child(2)\
         {text-align:left}.partial{color:#b00}</style>\n<h1>Where a token's time goes</h1>\n",
    );
    let class = if report.is_partial() { " class=\"partial\"" } else { "" };
    let _ = writeln!(page, "<p{class}>{}</p>", escaped(&report.heading()).replace('\n', "<br>"));
    page += &waterfall(&lines);
    page += "<p>Microseconds a token, medians of the rounds. Each bar begins where the stage before ended: \
             <b style=\"color:#c8553d\">red</b> adds, <b style=\"color:#5a9367\">green</b> takes away, \
             <b style=\"color:#4a7bb5\">blue</b> is the first. A step within the &plusmn; of its stages is noise.</p>\n";
    page += "<table><tr><th>stage<th>adds<th>tokens/s<th>&plusmn;%<th>ratio<th>us added a token</tr>\n";
    for Line { measured, ratio, added_us } in &lines {
        let (stage, name, rate) = (measured.stage, escaped(&measured.name), measured.median());
        let noise = measured.noise() * 100.0;
        let _ =
            writeln!(page, "<tr><td>{stage}<td>{name}<td>{rate:.1}<td>{noise:.0}<td>{ratio:.3}<td>{added_us:+.2}</tr>");
    }
    page += "</table>\n";
    if let Some(line) = &report.sockets {
        let _ = writeln!(page, "<p>{}</p>", escaped(line));
    }
    page + "</html>\n"
}

/// The drawing. Each bar begins where the bar before ended: red adds time, green saves time.
fn waterfall(lines: &[Line<'_>]) -> String {
    let ends: Vec<f64> = lines.iter().map(|line| 1e6 / line.measured.median()).collect();
    let most = ends.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    let x = |us: f64| LEFT + us / most * (WIDTH - LEFT - 90.0);
    let height = BAR * lines.len() as f64;
    let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"microseconds a token\">\n");
    let mut before = 0.0;
    for (i, (line, end)) in lines.iter().zip(ends).enumerate() {
        let (y, from, to) = (i as f64 * BAR, f64::min(before, end), f64::max(before, end));
        let fill = if i == 0 {
            "#4a7bb5"
        } else if end > before {
            "#c8553d"
        } else {
            "#5a9367"
        };
        let (name, wide) = (escaped(&line.measured.name), (x(to) - x(from)).max(1.0));
        let _ = writeln!(
            svg,
            "<text x=\"0\" y=\"{:.1}\">{} {name}</text><rect x=\"{:.1}\" y=\"{:.1}\" width=\"{wide:.1}\" height=\"{:.1}\" \
             fill=\"{fill}\"/><text x=\"{:.1}\" y=\"{:.1}\">{end:.2} us</text>",
            y + 18.0,
            line.measured.stage,
            x(from),
            y + 4.0,
            BAR - 8.0,
            x(to) + 6.0,
            y + 18.0
        );
        before = end;
    }
    svg + "</svg>\n"
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_of_files_are_only_text() {
        assert_eq!(super::escaped("<a & \"b\">"), "&lt;a &amp; &quot;b&quot;&gt;");
    }
}
