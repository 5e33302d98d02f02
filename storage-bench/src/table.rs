//! Aligned tables that are Markdown, too.

/// A table; its first column is text, the others are figures.
#[derive(Debug)]
pub(crate) struct Table {
    lines: Vec<Vec<String>>,
    texts: usize,
}

impl Table {
    /// An empty one whose first `texts` columns are aligned to the left.
    pub(crate) fn new(texts: usize, header: &[&str]) -> Self {
        Self { lines: vec![header.iter().map(ToString::to_string).collect()], texts }
    }

    /// Adds a line.
    pub(crate) fn line(&mut self, cells: Vec<String>) {
        self.lines.push(cells);
    }

    /// Whether there are no lines but the header.
    pub(crate) fn is_empty(&self) -> bool {
        self.lines.len() < 2
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let columns = self.lines.first().map_or(0, Vec::len);
        let width = |column: usize| {
            let cells = self.lines.iter().filter_map(|line| line.get(column));
            cells.map(|cell: &String| cell.chars().count()).max().unwrap_or_default().max(3)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for (position, line) in self.lines.iter().enumerate() {
            write!(f, "|")?;
            for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
                if column < self.texts {
                    write!(f, " {cell:<width$} |")?;
                } else {
                    write!(f, " {cell:>width$} |")?;
                }
            }
            writeln!(f)?;
            if position == 0 {
                write!(f, "|")?;
                for (column, width) in widths.iter().enumerate() {
                    let dashes = "-".repeat(width + 1);
                    if column < self.texts {
                        write!(f, "{dashes}-|")?;
                    } else {
                        write!(f, "{dashes}:|")?;
                    }
                }
                writeln!(f)?;
            }
        }
        Ok(())
    }
}

/// A number with three figures that count, thousands separated.
pub(crate) fn figure(value: f64) -> String {
    if !value.is_finite() {
        return "-".into();
    }
    if value < 10.0 {
        return format!("{value:.2}");
    }
    if value < 100.0 {
        return format!("{value:.1}");
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_aligned() {
        let mut table = Table::new(1, &["who", "ops/s"]);
        assert!(table.is_empty());
        table.line(vec!["ours".into(), figure(1234567.0)]);
        table.line(vec!["a peer".into(), figure(9.5)]);
        assert_eq!(
            table.to_string(),
            "| who    |     ops/s |\n|--------|----------:|\n| ours   | 1,234,567 |\n| a peer |      9.50 |\n"
        );
    }

    #[test]
    fn figures_by_table() {
        for (value, text) in
            [(0.456, "0.46"), (12.34, "12.3"), (123.4, "123"), (1234.0, "1,234"), (f64::NAN, "-")]
        {
            assert_eq!(figure(value), text);
        }
    }
}
